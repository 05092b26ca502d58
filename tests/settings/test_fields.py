"""Text → values of a setting, and back; what is refused, and how."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grokjax.settings import flags
from grokjax.settings.fields import InvalidSettingError
from tests.helpers import field

FLAGS = sorted(flags.axis_flags())


@pytest.mark.parametrize(
    ("flag", "text", "expected"),
    [
        ("seeds", "46:51", (46, 47, 48, 49, 50)),
        ("seeds", "0:10:3", (0, 3, 6, 9)),
        ("seeds", "7, 1:3 ,9", (7, 1, 2, 9)),
        ("seeds", "5:0:-2", (5, 3, 1)),
        ("primes", "113,149", (113, 149)),
        ("primes", "1999,3,91", (1999, 3, 91)),
        ("train_fractions", "0.2,.25,3e-1", (0.2, 0.25, 0.3)),
        ("batch_size", "full,64:257:64", (0, 64, 128, 192, 256)),
        ("d_ff", "0,256", (0, 256)),
        ("biases", "true, False", (True, False)),
        ("layer_norm", "post,none,pre", ("post", "none", "pre")),
        ("schedules", "cosine", ("cosine",)),
    ],
)
def test_values_of_a_comma_list(flag, text, expected):
    found = field(flag).parse(text)
    assert found == expected
    assert {type(value) for value in found} == {field(flag).kind}


@pytest.mark.parametrize(
    ("flag", "text", "words"),
    [
        ("primes", "1", "an integer from 3 to 1999"),
        ("primes", "2", "an integer from 3 to 1999"),
        ("primes", "2000", "2000 cannot be used"),
        ("primes", "abc", "'abc' is not an integer"),
        ("primes", "", "is not an integer"),
        ("primes", "23,,29", "is not an integer"),
        ("seeds", "5:5", "empty"),
        ("seeds", "5:1", "empty"),
        ("seeds", "0:5:0", "not a range"),
        ("seeds", "0:1:2:3", "not a range"),
        ("seeds", "0:10000000000", "at most"),
        ("seeds", "1,2,1", "1 is given more than once"),
        ("seeds", "0:600,0:600", "more than once"),
        ("seeds", "-1", "2^63"),
        ("seeds", "1.5", "not an integer"),
        ("train_fractions", "1.2", "between 0 and 1"),
        ("train_fractions", "0", "between 0 and 1"),
        ("train_fractions", "nan", "between 0 and 1"),
        ("weight_decays", "-1", "at least 0"),
        ("weight_decays", "inf", "at least 0"),
        ("learning_rates", "0", "above 0"),
        ("label_permutations", "1.01", "between 0 and 1"),
        ("batch_size", "full,full", "more than once"),
        ("batch_size", "0", "an integer of at least 1, or full"),
        ("batch_size", "-1", "an integer of at least 1, or full"),
        ("batch_size", "all", "'all' is not an integer"),
        ("biases", "yes", "'yes' is not true or false"),
        ("biases", "1", "true or false"),
        ("layer_norm", "pre,before", "one of pre, post, none"),
        ("attention_rate", "1.5", "a number from 0 to 1"),
        ("attention_rate", "nan", "a number from 0 to 1"),
        ("n_layers", "0", "an integer from 1 to 1024"),
        ("beta2", "1", "a number from 0, below 1"),
        ("epsilon", "0", "above 0"),
        ("schedules", "step", "one of constant, linear, cosine"),
    ],
)
def test_a_bad_value_is_refused_with_its_flag_and_what_is_allowed(flag, text, words):
    with pytest.raises(InvalidSettingError) as caught:
        field(flag).parse(text)
    assert str(caught.value).startswith(f"--{flag}={text}")
    assert words in str(caught.value)


@given(st.text(max_size=30), st.sampled_from(FLAGS))
def test_any_text_parses_or_is_refused_clearly(text, flag):
    try:
        values = field(flag).parse(text)
    except InvalidSettingError as error:
        assert f"--{flag}=" in str(error)
    else:
        assert len(set(values)) == len(values) > 0
        for value in values:
            field(flag).check(value)
            assert field(flag).parse(field(flag).text(value)) == (value,)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8, unique=True))
def test_integers_survive_printing_and_parsing(values):
    assert list(field("seeds").parse(",".join(map(str, values)))) == values


@pytest.mark.parametrize("flag", FLAGS)
def test_a_default_is_a_value_and_is_read_as_it_is_written(flag):
    for own in flags.axis_flags()[flag]:
        own.check(own.default)
        assert own.parse(",".join(map(own.text, own.grid))) == own.grid
        assert own.help
        assert own.allowed


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("seeds", 1.0),
        ("seeds", True),
        ("seeds", "1"),
        ("batch_size", False),
        ("batch_size", -1),
        ("train_fractions", 1),
        ("train_fractions", float("nan")),
        ("biases", 1),
        ("biases", None),
        ("layer_norm", "before"),
        ("layer_norm", None),
        ("layer_norm", []),
    ],
)
def test_a_value_of_another_kind_is_refused(flag, value):
    with pytest.raises(InvalidSettingError, match=f"--{flag}="):
        field(flag).check(value)


def test_a_word_stands_for_a_value():
    own = field("batch_size")
    own.check(0)
    assert (own.text(0), own.text(64)) == ("full", "64")
    assert own.in_words(0) == "batch full"


def test_words_of_figures():
    assert field("train_fractions").in_words(0.3) == "α = 0.3"
    assert field("label_permutations").in_words(0.05) == "5 % of labels permuted"
    assert field("label_permutations").in_words(0.0) == "true labels"
    assert field("biases").in_words(False) == "biases false"
    assert field("beta2").in_words(0.98) == "beta2 0.98"
