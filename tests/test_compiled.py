"""What the compilers for TPUs and for the H100 make of the programs, read as the benchmark does.

No device is needed, but a compiler is: ``pip install -e '.[tpu]'``, or JAX's CUDA plug-in alone
(see experiments/benchmarks/compiled.py). Where one is missing its tests are skipped.
"""

import dataclasses
import json
import subprocess
import sys

import pytest

from experiments.benchmarks import compiled, hlo, page

TEXT = """HloModule jit_train

%fused_slice (p0: f32[10,4,8], p1: s32[]) -> f32[4,8] {
  %p0 = f32[10,4,8]{2,1,0} parameter(0)
  %p1 = s32[] parameter(1)
  ROOT %s = f32[1,4,8]{2,1,0} dynamic-slice(%p0, %p1), dynamic_slice_sizes={1,4,8}
}

%fused_dot (q0: f32[4,8], q1: f32[8,2]) -> f32[4,2] {
  %q0 = f32[4,8]{1,0} parameter(0)
  %q1 = f32[8,2]{1,0} parameter(1)
  ROOT %d = f32[4,2]{1,0} dot(%q0, %q1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%fused_update (u0: f32[10,2], u1: f32[1,2], u2: s32[]) -> f32[10,2] {
  %u0 = f32[10,2]{1,0} parameter(0)
  %u1 = f32[1,2]{1,0} parameter(1)
  %u2 = s32[] parameter(2)
  ROOT %u = f32[10,2]{1,0} dynamic-update-slice(%u0, %u1, %u2)
}

%command_buffer (c0: f32[4,8], c1: f32[8,2]) -> f32[4,2] {
  %c0 = f32[4,8]{1,0} parameter(0)
  %c1 = f32[8,2]{1,0} parameter(1)
  ROOT %f = f32[4,2]{1,0} fusion(%c0, %c1), kind=kCustom, calls=%fused_dot
}

%body (arg: (s32[], f32[10,4,8])) -> (s32[], f32[10,4,8]) {
  %arg = (s32[], f32[10,4,8]{2,1,0}) parameter(0)
  %i = s32[] get-tuple-element(%arg), index=0
  %xs = f32[10,4,8]{2,1,0} get-tuple-element(%arg), index=1
  %x = f32[4,8]{1,0} fusion(%xs, %i), kind=kLoop, calls=%fused_slice
  %w = f32[8,2]{1,0:T(8,128)S(1)} custom-call(), custom_call_target="w"
  %y = f32[4,2]{1,0} call(%x, %w), to_apply=%command_buffer
  %ys = f32[10,2]{1,0} custom-call(), custom_call_target="ys"
  %row = f32[1,2]{1,0} copy(%y)
  %new = f32[10,2]{1,0} fusion(%ys, %row, %i), kind=kLoop, calls=%fused_update, backend_config={"estimated_cycles":"70"}
  ROOT %out = (s32[], f32[10,4,8]{2,1,0}) tuple(%i, %xs)
}

%condition (carg: (s32[], f32[10,4,8])) -> pred[] {
  %carg = (s32[], f32[10,4,8]{2,1,0}) parameter(0)
  %ten = s32[] constant(10)
  %at = s32[] get-tuple-element(%carg), index=0
  ROOT %less = pred[] compare(%at, %ten), direction=LT
}

%groups (garg: (s32[], f32[10,4,8])) -> (s32[], f32[10,4,8]) {
  %garg = (s32[], f32[10,4,8]{2,1,0}) parameter(0)
  %c0 = f32[1,2]{1,0} custom-call(), custom_call_target="c"
  %c1 = f32[1,2]{1,0} custom-call(), custom_call_target="c"
  %c2 = f32[1,2]{1,0} custom-call(), custom_call_target="c"
  %c3 = f32[1,2]{1,0} custom-call(), custom_call_target="c"
  %c4 = f32[1,2]{1,0} custom-call(), custom_call_target="c"
  %c5 = f32[1,2]{1,0} custom-call(), custom_call_target="c"
  %c6 = f32[1,2]{1,0} custom-call(), custom_call_target="c"
  %c7 = f32[1,2]{1,0} custom-call(), custom_call_target="c"
  ROOT %steps = (s32[], f32[10,4,8]{2,1,0}) while(%garg), condition=%condition, body=%body
}

ENTRY %main (a: (s32[], f32[10,4,8])) -> (s32[], f32[10,4,8]) {
  %a = (s32[], f32[10,4,8]{2,1,0}) parameter(0)
  ROOT %all = (s32[], f32[10,4,8]{2,1,0}) while(%a), condition=%condition, body=%groups, backend_config={"known_trip_count":{"n":"3"}}
}
"""  # noqa: E501


def test_a_program_is_read_as_one_would_count_it():
    module = hlo.Module(TEXT)
    assert module.loop == "body"
    assert module.parts(whole=False) == {"body": 3 * 10}
    assert module.parts(whole=True) == {"main": 1, "groups": 3, "body": 3 * 10}
    assert module.cycles("body") == 70
    found = {one.name: (module.bytes(one, own), module.flops(one, own))
             for one, own in module.kernels("body")}  # fmt: skip
    assert found == {
        "x": (4 + 4 * (32 + 32), 0),  # the slice, not all ten; as large a result; the index
        "w": (0, 0),  # in vector memory
        "f": (4 * (32 + 16 + 8), 2 * 4 * 2 * 8),
        "ys": (80, 0),
        "row": (4 * (8 + 2), 0),
        "new": (4 + 4 * (2 + 2), 0),  # the row, read and written
    }
    counts = module.counts("body")
    assert {name: n for name, n in counts.items() if n} == {
        "kernels": 6,
        "products": 1,
        "copies": 1,
    }


def test_a_smaller_group_of_runs_that_is_left_over_counts():
    body = TEXT[TEXT.index("%body (") : TEXT.index("%condition (")]
    whole = TEXT.replace("%condition (", body.replace("%body (", "%rest (") + "%condition (")
    some = "  %some = (s32[], f32[10,4,8]{2,1,0}) while(%a), condition=%condition, body=%rest\n"
    module = hlo.Module(whole.replace("  ROOT %all", f"{some}  ROOT %all"))
    assert module.parts(whole=False) == {"body": 3 * 10, "rest": 10}


SLICED = """HloModule sliced

%parts (p0: f32[10,4], p1: f32[10,4]) -> f32[2,4] {
  %p0 = f32[10,4]{1,0} parameter(0)
  %p1 = f32[10,4]{1,0} parameter(1)
  %one = f32[2,4]{1,0} slice(%p0), slice={[0:2], [0:4]}
  %other = f32[2,4]{1,0} slice(%p0), slice={[2:4], [0:4]}
  %cut = f32[2,4]{1,0} slice(%p1), slice={[0:2], [0:4]}
  %all = f32[4]{0} reduce(%p1), dimensions={0}
  ROOT %sum = f32[2,4]{1,0} add(%one, %other)
}

ENTRY %main (a: f32[10,4], b: f32[10,4]) -> f32[2,4] {
  %a = f32[10,4]{1,0} parameter(0)
  %b = f32[10,4]{1,0} parameter(1)
  ROOT %f = f32[2,4]{1,0} fusion(%a, %b), kind=kLoop, calls=%parts
}
"""


def test_of_slices_no_more_is_read_than_they_are():
    module = hlo.Module(SLICED)
    ((one, own),) = module.kernels("main")
    # Two slices of the first, all of the second, which is needed whole; one slice written.
    assert module.bytes(one, own) == 4 * (2 * 8 + 40 + 8)


LOOKED_UP = """HloModule looked_up

%rows (p0: f32[10,12], p1: f32[10,4], p2: s32[3,2]) -> f32[3,4] {
  %p0 = f32[10,12]{1,0} parameter(0)
  %p1 = f32[10,4]{1,0} parameter(1)
  %p2 = s32[3,2]{1,0} parameter(2)
  %some = f32[3,4]{1,0} gather(%p0, %p2), offset_dims={1}, slice_sizes={1,4}
  %each = f32[3,4]{1,0} gather(%p1, %p2), offset_dims={1}, slice_sizes={1,4}
  %number = f32[3]{0} gather(%p1, %p2), offset_dims={}, slice_sizes={1,1}
  ROOT %sum = f32[3,4]{1,0} add(%some, %each)
}

ENTRY %main (a: f32[10,12], b: f32[10,4], c: s32[3,2]) -> f32[3,4] {
  %a = f32[10,12]{1,0} parameter(0)
  %b = f32[10,4]{1,0} parameter(1)
  %c = s32[3,2]{1,0} parameter(2)
  ROOT %f = f32[3,4]{1,0} fusion(%a, %b, %c), kind=kLoop, calls=%rows
}
"""


def test_of_looked_up_rows_all_are_read_in_the_columns_that_are_taken():
    module = hlo.Module(LOOKED_UP)
    ((one, own),) = module.kernels("main")
    # Of ten rows four of twelve columns, or four, however often; indices; what is written.
    assert module.bytes(one, own) == 4 * (40 + 40 + 6 + 12)


SMALL = {"d_model": "16", "d_ff": "16", "mlp_width": "16", "batch_size": "32"}
CALLED = """
import json, sys
from experiments.benchmarks import compiled
compiled.quiet()
target, small = sys.argv[1], json.loads(sys.argv[2])
for program in compiled.PROGRAMS:
    for model in ("transformer", "mlp"):
        sizes = {"runs": 3, "prime": 11, "steps": 4}
        asked = compiled.Asked(target=target, program=program, model=model, **sizes)
        print(json.dumps(compiled.measure(asked, **small)), flush=True)
"""


@pytest.fixture(scope="module", params=["v5e", "h100"])
def results(request):
    """What each program is made of, by its name and its model."""
    if reason := compiled.missing(request.param):
        pytest.skip(reason)
    command = [sys.executable, "-c", CALLED, request.param, json.dumps(SMALL)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return {(found["program"], found["model"]): found for found in map(json.loads, lines)}


def test_the_compilers_make_programs_of_products_alone(results):
    assert len(results) == 12
    for (program, model), found in results.items():
        loop = found["loop"]
        assert loop["collectives"] == 0
        assert found["milliseconds"]["estimate"] > found["milliseconds"]["products"] > 0
        if program in compiled.LENSES:
            continue
        assert (loop["scatters"], loop["sorts"]) == (0, 0)
        assert loop["products"] >= (4 if program == "evaluation" else 8)
        assert found["bytes_of"]["temp"] < 3e7
        if program == "steps" and found["target"] == "v5e":
            assert loop["gathers"] == 0, model  # of rows of tables: products
        if program != "evaluation":  # the state is updated in place
            assert found["bytes_of"]["alias"] > 0.5 * found["bytes_of"]["argument"]


def test_a_page_of_compiled_programs_shows_what_was_before(tmp_path):
    asked = compiled.Asked(target="v5e", program="training", model="transformer", runs=45)
    result = dataclasses.asdict(asked) | {
        "compile_seconds": 99.0,
        "bytes_of": {"argument": 5e8, "output": 4e8, "alias": 4e8, "temp": 1e9},
        "loop": {"kernels": 100, "scatters": 0},
        "flops": 1.4e9,
        "bytes": 3e7,
        "milliseconds": {"estimate": 0.09, "products": 0.04, "memory": 0.03},
    }
    before = result | {"milliseconds": {"estimate": 0.169}, "loop": {"kernels": 124}}
    record = {"results": [result], "before": [before], "device": "a machine", "python": "3.12",
              "versions": {}, "commit": "0123456789", "time": "2026-01-01T00:00:00"}  # fmt: skip
    (tmp_path / "compiled.json").write_text(json.dumps(record))
    row = next(line for line in page.write(tmp_path).splitlines() if line.startswith("| v5e"))
    assert "**0.0900 ms** a run, before 0.1690 (products alone 0.040" in row
    assert "100 kernels (before 124), 0 scatters; 1.40 GFLOP, 30 MB a run; memory 1.50 GB" in row
    assert row.endswith("| ≤ 0.085 ms |")
