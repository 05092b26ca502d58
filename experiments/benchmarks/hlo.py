"""What an optimised program of XLA's does, read from its text: kernels, bytes, FLOPs, cycles."""

import dataclasses
import functools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping

_SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f64": 8, "s64": 8}
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](\{[^}]*\})?")
_LINE = re.compile(r"(ROOT )?%?([\w.-]+) = (.*?) ([a-z][\w-]*)\((.*?)\)(?:, (.*))?$")
_HEAD = re.compile(r"(?:ENTRY )?%?([\w.-]+) \(.*\{$")
# Instructions that start no kernel; what is asynchronous counts where it starts.
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "while",
         "call", "conditional", "copy-done", "slice-done", "async-done"}  # fmt: skip
_COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective", "reduce-scatter")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    rest: str  # attributes
    root: bool

    def called(self, attribute: str) -> str | None:
        """The computation that an attribute names."""
        found = re.search(rf"\b{attribute}=%?([\w.-]+)", self.rest)
        return found and found[1]

    def number(self, key: str) -> int:
        """A number of the backend's configuration; 0 where it has none of that name."""
        found = re.search(rf'"{key}":(?:\{{"n":)?"(\d+)"', self.rest)
        return int(found[1]) if found else 0


def elements(shape: str) -> list[int]:
    """Lengths of the axes of the first array of a shape."""
    return [int(n) for n in (_ARRAY.search(shape) or ["", "", ""])[2].split(",") if n]


def size(shape: str) -> int:
    """Bytes of a shape in main memory, so without what lies in a TPU's vector memory, S(1)."""
    return sum(
        math.prod(int(n) for n in axes.split(",") if n) * _SIZES.get(dtype, 4)
        for dtype, axes, layout in _ARRAY.findall(shape)
        if dtype != "token" and "S(" not in layout
    )


class Module:
    """The computations of a program."""

    def __init__(self, text: str):
        self.computations: dict[str, dict[str, Instruction]] = {}
        self.entry = ""
        current: dict[str, Instruction] = {}
        for line in text.splitlines():
            if not line.startswith(" ") and (head := _HEAD.match(line)):
                current = self.computations[head[1]] = {}
                if line.startswith("ENTRY"):
                    self.entry = head[1]
            elif line.startswith(" ") and (found := _LINE.match(line.strip())):
                root, name, shape, opcode, inside, rest = found.groups()
                operands = tuple(re.findall(r"%([\w.-]+)", inside))
                one = Instruction(name, shape, opcode, operands, rest or "", bool(root))
                if opcode in ("parameter", "constant"):
                    one = dataclasses.replace(one, operands=(inside,))
                current[name] = one

    def kernels(self, computation: str) -> Iterator[tuple[Instruction, Mapping[str, Instruction]]]:
        """What is started by a computation, command buffers included but loops in it left out."""
        own = self.computations[computation]
        for one in own.values():
            if one.opcode == "call":
                yield from self.kernels(one.called("to_apply") or "")
            elif one.opcode not in _FREE:
                yield one, own

    def loops(self, computation: str) -> Iterator[tuple[str, int]]:
        """Bodies of the loops of a computation, and of those in them, with how often each is run.

        The number is in the backend's configuration or is the constant of the condition.
        """
        for one in self.computations[computation].values():
            if one.opcode == "while":
                body, own = one.called("body") or "", one.called("condition") or ""
                limits = [i.operands[0] for i in self.computations[own].values()
                          if i.opcode == "constant" and i.operands[0].isdecimal()]  # fmt: skip
                times = one.number("known_trip_count") or max(map(int, limits), default=1)
                yield body, times
                yield from ((inner, times * n) for inner, n in self.loops(body))
            elif one.opcode == "call":
                yield from self.loops(one.called("to_apply") or "")

    @functools.cached_property
    def loop(self) -> str:
        """The body of the loop over steps: that with the most products, then the most kernels.

        Of a program that has no loop, the whole.
        """
        bodies = dict(self.loops(self.entry)) or {self.entry: 1}

        def rank(body: str) -> tuple[int, int]:
            counted = self.counts(body)
            return counted["products"], counted["kernels"]

        return max(bodies, key=rank)

    def parts(self, whole: bool) -> dict[str, int]:
        """Computation → how often a call runs it: loops over steps, or all that is run.

        Loops over steps are several where runs come in groups and a smaller group is left over.
        """
        found = {self.entry: 1} | dict(self.loops(self.entry))
        products = {name: self.counts(name)["products"] for name in found if name != self.entry}
        most = self.counts(self.loop)["products"]
        alike = [self.loop, *(name for name, n in products.items() if 2 * n > most)]
        return found if whole else {name: found[name] for name in alike}

    def cycles(self, computation: str) -> int:
        """A TPU compiler's estimate of a computation's kernels."""
        return sum(one.number("estimated_cycles") for one, _ in self.kernels(computation))

    # ----------------------------------------------------------------------- one kernel

    def bytes(self, one: Instruction, own: Mapping[str, Instruction]) -> int:
        """Bytes read and written by a kernel if each is once.

        Of a slice no more than the slice, of looked-up rows no more than the columns taken of all.
        """
        if one.opcode.endswith("-start"):
            return size(one.shape)
        inner = self.computations.get(one.called("calls") or "", {})
        read = 0
        for place, name in enumerate(one.operands):
            whole = size(own[name].shape) if name in own else 0
            read += min(whole, self._read(inner, place)) if inner else whole
        return read + self._written(one, inner)

    def _read(self, inner: Mapping[str, Instruction], place: int) -> float:
        (own,) = (
            i for i in inner.values() if i.opcode == "parameter" and i.operands == (f"{place}",)
        )
        users = [i for i in inner.values() if own.name in i.operands]
        sliced = 0.0
        for user in users:
            if user.opcode in ("dynamic-slice", "slice"):
                sliced += size(user.shape)
            elif user.opcode == "gather" and user.operands[0] == own.name:
                sliced += size(own.shape) * _share(user, elements(own.shape)[-1])
            elif user.opcode != "dynamic-update-slice" or user.operands[0] != own.name:
                return math.inf
        return sliced

    def _written(self, one: Instruction, inner: Mapping[str, Instruction]) -> int:
        for root in inner.values():
            if root.root and root.opcode == "dynamic-update-slice":
                return size(inner[root.operands[1]].shape)
        return size(one.shape)

    def flops(self, one: Instruction, own: Mapping[str, Instruction]) -> int:
        """Multiplications and additions of the products of a kernel."""
        if one.opcode in ("dot", "custom-call") and (found := _contracted(one)):
            left = elements(own[one.operands[0]].shape)
            return 2 * math.prod(elements(one.shape)) * math.prod(left[i] for i in found)
        inner = self.computations.get(one.called("calls") or "", {})
        return sum(self.flops(each, inner) for each in inner.values())

    # ----------------------------------------------------------------------- a computation

    def counts(self, computation: str) -> Counter[str]:
        """Its kernels by what is in them, and moves between memories beside them."""
        found: Counter[str] = Counter()
        for one, _ in self.kernels(computation):
            inside = self._opcodes(one)
            found["kernels"] += not one.opcode.endswith("-start")
            found["products"] += bool(inside & {"dot", "convolution"}) or "gemm" in one.rest
            found["reductions"] += "reduce" in inside
            found["scatters"] += "scatter" in inside
            found["gathers"] += "gather" in inside
            found["sorts"] += "sort" in inside
            found["copies"] += one.opcode == "copy"
            found["moves"] += one.opcode.endswith("-start")
            found["collectives"] += one.opcode.startswith(_COLLECTIVES)
        return found

    def _opcodes(self, one: Instruction) -> set[str]:
        inner = self.computations.get(one.called("calls") or "", {})
        return {one.opcode}.union(*(self._opcodes(each) for each in inner.values()))


def _share(gather: Instruction, n_columns: int) -> float:
    """Of the columns of rows that are looked up: any row may be, but the same columns of each."""
    found = re.search(r"slice_sizes=\{(?:\d+,)*(\d+)\}", gather.rest)
    taken = int(found[1]) if found else 1
    return taken / n_columns if taken > 1 else 1.0


def _contracted(one: Instruction) -> list[int]:
    found = re.search(r'lhs_contracting_dim(?:s=\{|ensions":\[)([\d,"]*)', one.rest)
    return [int(n) for n in re.findall(r"\d+", found[1])] if found else []
