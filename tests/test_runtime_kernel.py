"""The compiled kernel against float64, at every instruction set that this processor has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from ctypes import CFUNCTYPE, c_uint, c_void_p, cast
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from runtime_fixtures import AVAILABLE, CASES, FP16, at, inputs, needs_kernel, product, sparse, taken
from torch import nn

from cram_hf.runtime import kernel, pack
from cram_hf.runtime.choice import choose
from cram_hf.runtime.library import LEVELS, SWITCH, Kernel

pytestmark = needs_kernel
SOURCE = Path(__file__).parents[1] / "cram_hf" / "runtime" / "kernel.cpp"
each_level = pytest.mark.parametrize("level", AVAILABLE)
each_float = pytest.mark.parametrize(("level", "precision"), taken("fp32", "bf16", "fp16"))
each_precision = pytest.mark.parametrize(("level", "precision"), taken("fp32", "bf16", "fp16", "int8"))


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("level", "precision"), taken("fp32", "bf16"))
@settings(deadline=None, max_examples=40)
@given(**CASES)
def test_any_shape_and_mask_gives_the_answer_of_float64(
    patch, level, precision, rows, width, tokens, zeros, has_bias, threads, seed
):
    weight, x = sparse(rows, width, zeros, seed), inputs(tokens, width, seed)
    bias = inputs(1, rows, seed + 1)[0] if has_bias else None
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        y = at(level, patch).linear(x, pack(weight, precision), bias)
    finally:
        torch.set_num_threads(before)
    expected = product(x, weight, bias, precision)
    # a bound on fp32 sums of so many products, from the sums of their magnitudes
    magnitude = product(x.abs(), weight.abs(), None if bias is None else bias.abs(), precision)
    assert y.shape == expected.shape
    assert bool(((y - expected).abs() <= 2**-24 * (width + 3) * magnitude + 1e-37).all())


@each_precision
def test_an_output_depends_neither_on_the_batch_nor_on_the_number_of_threads(monkeypatch, level, precision):
    engine = at(level, monkeypatch)
    packed, x, bias = pack(sparse(300, 300, 0.7), precision), inputs(200, 300), inputs(1, 300)[0]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        whole = engine.linear(x, packed, bias)
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for first, last in ((0, 1), (3, 20), (64, 128), (0, 200)):
                assert torch.equal(engine.linear(x[first:last].contiguous(), packed, bias), whole[first:last])
    finally:
        torch.set_num_threads(before)


@each_precision
@pytest.mark.usefixtures("two_threads")
def test_many_threads_on_one_matrix_get_the_same_answer(monkeypatch, level, precision):
    engine = at(level, monkeypatch)
    packed = pack(sparse(300, 260, 0.7), precision)
    batches = [inputs(tokens, 260, tokens) for tokens in (1, 17, 40, 70, 130)] * 8
    alone = [engine.linear(x, packed, None) for x in batches]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda x: engine.linear(x, packed, None), batches))
    assert all(map(torch.equal, alone, together))


@each_level
def test_without_openmp_it_starts_threads_of_its_own(monkeypatch, level):
    engine = at(level, monkeypatch)
    packed, x = pack(sparse(300, 260, 0.7)), inputs(100, 260)
    alone = engine.linear(x, packed, None)
    monkeypatch.setattr(engine, "_team", None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(engine.linear(x, packed, None), alone)


def processor() -> str:
    described = Path("/proc/cpuinfo")
    return described.read_text() if described.exists() else ""


WORK = CFUNCTYPE(None, c_void_p)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_it_asks_openmp_for_the_threads_that_pytorch_is_set_to(monkeypatch, threads):
    asked = []

    @CFUNCTYPE(None, WORK, c_void_p, c_uint, c_uint)
    def team(work, data, count, _):
        asked.append(count)
        work(data)

    engine = at(AVAILABLE[-1], monkeypatch)
    monkeypatch.setattr(engine, "_team", cast(team, c_void_p).value)
    packed, x = pack(sparse(300, 260, 0.7)), inputs(200, 260)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(engine.linear, x, packed, None).result()
        monkeypatch.setattr("cram_hf.runtime.library.ALONE", 10**9)
        engine.linear(x, packed, None)  # too little work for more than one
    finally:
        torch.set_num_threads(before)
    assert set(asked) == ({threads} if threads > 1 else set())


@pytest.mark.usefixtures("two_threads")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_computes_with_several_threads(monkeypatch):
    engine = at(AVAILABLE[-1], monkeypatch)
    packed, x = pack(sparse(300, 260, 0.7)), inputs(100, 260)
    parents = engine.linear(x, packed, None).clone()
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(engine.linear(x, packed, None), parents) else 1)
    assert os.waitpid(child, 0)[1] == 0


@each_float
def test_infinity_and_nan_stay_with_their_token_and_their_weights(monkeypatch, level, precision):
    weight = sparse(40, 300, 0.8)
    weight[:, 7] = 0
    weight[5, 7], weight[6, 8] = 2.0, float("nan")
    x = inputs(70, 300)
    x[3, 7], x[4, 7], x[5, 7] = float("inf"), float("nan"), float("-inf")
    y = at(level, monkeypatch).linear(x, pack(weight, precision), None)
    assert y[3, 5] == float("inf")
    assert y[5, 5] == float("-inf")
    assert y[4, 5].isnan()
    assert bool(y[:, 6].isnan().all())
    y[:, 5], y[:, 6] = 0, 0
    assert bool(y.isfinite().all())


@each_float
@pytest.mark.parametrize("kept", [1, 2, 3])
def test_an_infinite_activation_gives_infinity_for_an_odd_number_of_weights_too(monkeypatch, level, precision, kept):
    weight = torch.zeros(1, 10)
    weight[0, :kept] = 1.5
    x = torch.ones(1, 10)
    x[0, kept - 1] = float("inf")
    assert at(level, monkeypatch).linear(x, pack(weight, precision), None).item() == float("inf")


@each_level
def test_denormals_are_numbers_in_fp32_as_in_a_dense_layer(monkeypatch, level):
    weight, x = torch.tensor([[2.0**-140, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 2.0**-149], [8.0, 2.0**-130]])
    y = at(level, monkeypatch).linear(x, pack(weight), None)
    assert y.tolist() == [[2.0**-140, 2.0**-149], [2.0**-137, 2.0**-130]]
    assert torch.equal(y, torch.nn.functional.linear(x, weight))


@pytest.mark.parametrize("level", AVAILABLE)
def test_a_level_can_be_asked_for_in_the_environment(monkeypatch, level):
    monkeypatch.setenv("CRAM_HF_RUNTIME", level)
    kernel.cache_clear()
    found = kernel()
    monkeypatch.undo()
    kernel.cache_clear()
    assert found is not None
    assert (found.level, found.levels) == (level, AVAILABLE)


@pytest.mark.skipif(SWITCH in os.environ, reason=f"{SWITCH} is set")
def test_the_fastest_level_is_taken_which_on_intel_is_not_that_of_bf16_dot_products(monkeypatch):
    class Library:
        """What a processor with everything says, and which level it takes."""

        cram_hf_linear = SimpleNamespace()
        cram_hf_level = staticmethod(lambda: 5)

        def __init__(self, choice: int) -> None:
            self.cram_hf_choice = lambda: choice

    for choice, level, auto in ((3, LEVELS[3], "fp32"), (4, "avx512_bf16", "bf16"), (5, "avx512_fp16", "fp16")):
        engine = Kernel(Library(choice))  # type: ignore[arg-type]
        assert engine.level == level
        assert Kernel(Library(choice), "avx512_bf16").level == "avx512_bf16"  # type: ignore[arg-type]
        monkeypatch.setattr("cram_hf.runtime.choice.kernel", lambda engine=engine: engine)
        assert choose(nn.Identity(), "auto", None).precision == auto
    engine = kernel()
    assert engine is not None
    intel, best = "GenuineIntel" in processor(), engine.levels[-1]
    other = {"avx512_bf16": "avx512_vnni"} if intel else {"avx512_fp16": "avx512_bf16"}
    assert engine.level == other.get(best, best)


def built(compiler: str, flags: list[str], folder: Path) -> Path:
    """A debug build of `runtime_check.cpp`, with asserts."""
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no {compiler}")
    command = [compiler, "-std=c++17", "-O1", "-g", "-UNDEBUG", "-pthread", f"-I{SOURCE.parent}", *flags]
    check = Path(__file__).parent / "runtime_check.cpp"
    done = subprocess.run([*command, str(check), "-o", folder / "check"], capture_output=True, text=True, check=False)
    if "cannot find" in done.stderr:
        pytest.skip(f"{compiler} has no library for {flags}")
    assert done.returncode == 0, done.stderr
    return folder / "check"


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_the_sanitizers_find_nothing(tmp_path, sanitizer):
    check = built(
        "g++" if shutil.which("g++") else "clang++", [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"], tmp_path
    )
    ran = subprocess.run([check], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "products are right" in ran.stdout


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_each_compiler_builds_it_right_and_a_debug_build_stops_at_a_column_outside_of_the_matrix(tmp_path, compiler):
    check = built(compiler, [], tmp_path)
    assert "products are right" in subprocess.run([check], capture_output=True, text=True, check=True).stdout
    knows_fp16 = FP16 in AVAILABLE and compiler == "g++"  # clang++ from 16 on
    for kind in ("0", "1", "2", "3")[: 4 if knows_fp16 else 3]:
        ran = subprocess.run([check, kind], capture_output=True, text=True, check=False)
        assert ran.returncode < 0
        assert re.search(r"Assertion .*columns\[i\] < l.width", ran.stderr)


@pytest.mark.slow
def test_on_arm_it_compiles_unchanged_to_neon_and_is_right(tmp_path):
    check = built("aarch64-linux-gnu-g++", ["-static"], tmp_path)
    emulator = shutil.which("qemu-aarch64") or pytest.skip("there is no qemu-aarch64 to run it")
    assert "products are right" in subprocess.run([emulator, check], capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
def test_fast_math_is_refused():
    command = ["g++", "-E", "-std=c++17", str(SOURCE)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    refused = subprocess.run([*command, "-ffast-math"], capture_output=True, text=True, check=False)
    assert "-ffast-math makes the library flush denormals" in refused.stderr


def test_levels_are_those_of_the_library():
    assert AVAILABLE[0] == "plain"
    assert LEVELS == ("plain", "avx2", "avx512", "avx512_vnni", "avx512_bf16", "avx512_fp16")
