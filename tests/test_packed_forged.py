"""A truncated, damaged or forged packed file is an error, before memory is taken for what it claims to hold."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_fixtures import put_at, put_together, taken_apart, values, with_digest

from cram_hf.packed import PackedError, load_packed, save_packed

Change = Callable[[dict[str, Any]], Any]


def sample() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    sparse = torch.zeros(9, 13)
    sparse[2, :5] = torch.randn(5, generator=generator)
    tied = torch.arange(3)
    return {"a": sparse, "b": torch.randn(2, 3, generator=generator), "on": torch.tensor([True]), "t": tied, "u": tied}


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> bytes:
    """117 values in a mask of 15 bytes, of which the last holds 5."""
    path = tmp_path_factory.mktemp("packed") / "p"
    save_packed(sample(), path)
    return path.read_bytes()


def load(data: bytes, folder: Path) -> dict[str, torch.Tensor]:
    """Loads, and fails if NumPy or Python took more than a megabyte."""
    (folder / "forged").write_bytes(data)
    tracemalloc.start()
    try:
        return load_packed(folder / "forged")
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2_000_000


def equal(state: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(state[name], tensor) for name, tensor in sample().items()) and len(state) == 5


def test_the_helpers_make_a_file_that_loads(original, tmp_path):
    assert equal(load(put_together(*taken_apart(original)), tmp_path))


def test_each_single_changed_byte_is_noticed(original, tmp_path):
    path = tmp_path / "p"
    for place in range(len(original)):
        for change in (1, 0x20):
            data = bytearray(original)
            data[place] ^= change
            path.write_bytes(data)
            with pytest.raises(PackedError):
                load_packed(path)


def test_a_file_cut_anywhere_or_with_bytes_added_is_refused(original, tmp_path):
    path = tmp_path / "p"
    for end in range(len(original)):
        path.write_bytes(original[:end])
        with pytest.raises(PackedError):
            load_packed(path)
    for more in (b"\0", original):
        path.write_bytes(original + more)
        with pytest.raises(PackedError):
            load_packed(path)


def tensor(name: str, **fields: Any) -> Change:
    return lambda document: document["__metadata__"]["tensors"][name].update(fields)


def entry(name: str, **fields: Any) -> Change:
    return lambda document: document[name].update(fields)


def metadata(**fields: Any) -> Change:
    return lambda document: document["__metadata__"].update(fields)


def drop(*names: str) -> Change:
    def change(document: dict[str, Any]) -> None:
        for name in names[:-1]:
            document = document[name]
        del document[names[-1]]

    return change


def both(*changes: Change) -> Change:
    return lambda document: [change(document) for change in changes]


HUGE = 1 << 40
FORGERIES: dict[str, tuple[Change, str]] = {
    "another format": (metadata(format="pt"), "it is no packed model"),
    "a later version": (metadata(version="2"), "version '2'; this release reads '1': update cram_hf"),
    "a version that is a number": (metadata(version=1), "version 1"),
    "an unknown key": (metadata(more="x"), "its metadata must be the texts"),
    "a missing key": (drop("__metadata__", "tied"), "its metadata must be the texts"),
    "no metadata": (drop("__metadata__"), "it is no packed model"),
    "metadata of another type": (lambda d: d.update(__metadata__=[1]), "it is no packed model"),
    "tensors that are a list": (metadata(tensors="[]"), "'tensors' is no JSON object"),
    "tensors that are no JSON": (metadata(tensors="{"), "'tensors' is no valid JSON"),
    "a name twice": (metadata(tied='{"u":"t","u":"t"}'), "a name comes twice"),
    "a nest of brackets": (metadata(tied="[" * 100_000), "'tied' is no valid JSON"),
    "a number of many digits": (metadata(tied='{"u":' + "9" * 9999 + "}"), "'tied' is no valid JSON"),
    "a tie to nothing": (metadata(tied={"u": "x"}), "'u' is tied to what is not there"),
    "a tie to a tie": (metadata(tied={"u": "t", "v": "u"}), "'v' is tied"),
    "a tie to a list": (metadata(tied={"u": ["t"]}), "'u' is tied"),
    "a tie of a tensor": (metadata(tied={"t": "b"}), "'t' is tied to what is not there, or stored besides"),
    "a huge matrix": (tensor("a", shape=[HUGE, 1]), "'a:mask' is not U8"),
    "a huger matrix": (tensor("a", shape=[HUGE, HUGE]), "impossible shape"),
    "a huge dimension": (tensor("a", shape=[HUGE + 1]), "impossible shape"),
    "a huge empty matrix": (tensor("b", shape=[HUGE, HUGE, 0], kept=0), "impossible shape"),
    "a negative dimension": (tensor("a", shape=[-9, -13]), "impossible shape"),
    "a fractional dimension": (tensor("a", shape=[9.5, 13]), "impossible shape"),
    "a true dimension": (tensor("on", shape=[True]), "impossible shape"),
    "nine dimensions": (tensor("on", shape=[1] * 9), "impossible shape"),
    "a shape that is a text": (tensor("a", shape="9"), "impossible shape"),
    "more values than places": (tensor("a", kept=118), "'a' keeps 118 of 117 values"),
    "fewer values than the mask": (tensor("a", kept=4), "the entry 'a' is not F32"),
    "a dense tensor that keeps less": (tensor("b", kept=5), "'b' keeps 5 of 6 values"),
    "a negative count": (tensor("a", kept=-1), "'a' keeps -1"),
    "an unknown kind": (tensor("a", kind="csr"), "unknown kind 'csr'"),
    "a kind that is a list": (tensor("a", kind=[]), "unknown kind"),
    "an unknown type": (tensor("b", dtype="F4"), "'b' cannot be 'F4'"),
    "a type that is an object": (tensor("b", dtype={}), "'b' cannot be"),
    "integers stored as floats": (tensor("t", stored="F32"), "'t' cannot be 'I64' stored as 'F32'"),
    "a masked integer": (tensor("t", kind="mask"), r"\(mask\)"),
    "floats stored as longs": (tensor("b", stored="I64"), "'b' cannot be 'F32' stored as 'I64'"),
    "a missing field": (drop("__metadata__", "tensors", "b", "kept"), "'b' must have kind"),
    "a field too many": (tensor("b", more=1), "'b' must have kind"),
    "a tensor without its entry": (drop("b"), "its entries are not those"),
    "an entry without its tensor": (drop("__metadata__", "tensors", "b"), "its entries are not those"),
    "int8 without a scale": (tensor("b", stored="I8"), "its entries are not those"),
    "a short mask": (entry("a:mask", shape=[14]), "'a:mask' is not U8"),
    "an entry of another type": (entry("b", dtype="I32"), "the entry 'b' is not F32"),
    "an entry with more keys": (entry("b", more=1), "the entry 'b' is not F32"),
    "an entry that is a list": (lambda d: d.update(b=[1]), "an entry has the data_offsets None"),
    "offsets beyond the file": (entry("b", data_offsets=[10**6, 10**6 + 24]), "overlap or leave gaps"),
    "huge offsets": (entry("b", data_offsets=[1 << 63, (1 << 63) + 24]), "an entry has the data_offsets"),
    "negative offsets": (entry("b", data_offsets=[-24, 0]), "an entry has the data_offsets"),
    "offsets the wrong way round": (entry("b", data_offsets=[48, 24]), "has -24 bytes and needs 24"),
    "three offsets": (entry("b", data_offsets=[0, 1, 2]), "an entry has the data_offsets"),
    "an overlap": (entry("b", data_offsets=[24, 48]), "overlap or leave gaps"),
}


@pytest.mark.parametrize(("change", "said"), FORGERIES.values(), ids=FORGERIES.keys())
def test_a_forged_header_with_a_fitting_digest_is_refused(change, said, original, tmp_path):
    document, payload = taken_apart(original)
    change(document)
    with pytest.raises(PackedError, match=said):
        load(put_together(document, payload), tmp_path)


@pytest.mark.parametrize(
    ("place", "byte"), [(0, 1), (14, 0x20), (14, 0x80)], ids=["a bit more", "past the end", "far"]
)
def test_a_mask_whose_bits_do_not_fit_the_values_is_refused(place, byte, original, tmp_path):
    document, payload = taken_apart(original)
    begin = document["a:mask"]["data_offsets"][0]
    forged = bytearray(payload)
    forged[begin + place] |= byte
    with pytest.raises(PackedError, match="the mask of 'a' does not have 5 bits set among 117"):
        load(put_together(document, bytes(forged)), tmp_path)
    forged[begin + 3] = forged[begin + 3] & (forged[begin + 3] - 1)  # takes one bit away again
    if place:
        with pytest.raises(PackedError, match="the mask of 'a'"):
            load(put_together(document, bytes(forged)), tmp_path)


def test_a_bool_that_is_neither_is_refused(original, tmp_path):
    document, payload = taken_apart(original)
    begin = document["on"]["data_offsets"][0]
    with pytest.raises(PackedError, match="'on' holds bytes that are neither true nor false"):
        load(put_together(document, payload[:begin] + b"\2" + payload[begin + 1 :]), tmp_path)


@pytest.mark.parametrize("length", [0, 1 << 24, 1 << 62, (1 << 64) - 1])
def test_a_header_length_that_cannot_be_is_refused(length, original, tmp_path):
    with pytest.raises(PackedError):
        load(length.to_bytes(8, "little") + original[8:], tmp_path)


def test_a_header_beyond_the_limit_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "p").open("wb") as file:
        file.write((1 << 30).to_bytes(8, "little"))
        file.truncate(8 + (1 << 30))  # takes no room on the disk
    with pytest.raises(PackedError, match="its header has 1,073,741,824 bytes; 16,777,216 are allowed"):
        load_packed(tmp_path / "p")


def test_a_digest_that_stands_twice_or_not_at_all_is_refused(original, tmp_path):
    document, payload = taken_apart(original)
    text = put_together(document, payload)
    digest = json.loads(text[8 : 8 + int.from_bytes(text[:8], "little")])["__metadata__"]["sha256"].encode()
    twice = text.replace(b'"__metadata__"', b'"' + digest + b'": 0, "__metadata__"')
    twice = (int.from_bytes(text[:8], "little") + 70).to_bytes(8, "little") + twice[8:]
    for data in (twice, text.replace(digest, b""), text.replace(digest, b"\\u0061" * 10)):
        with pytest.raises(PackedError):
            load(data, tmp_path)


PATHS = [
    *[("__metadata__", key) for key in ("format", "version", "tensors", "tied")],
    *[("__metadata__", "tensors", "a", key) for key in ("kind", "shape", "dtype", "stored", "kept")],
    *[("__metadata__", "tensors", "b", key) for key in ("kind", "shape", "dtype", "stored", "kept")],
    *[(name, key) for name in ("a", "a:mask", "b") for key in ("dtype", "shape", "data_offsets")],
    ("a",),
    ("__metadata__", "tensors", "a"),
    ("__metadata__",),
]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.sampled_from(PATHS), values)
def test_any_value_anywhere_in_the_header_is_an_error_or_leaves_the_tensors_right(
    tmp_path_factory, original, path, value
):
    document, payload = taken_apart(original)
    put_at(document, path, value)
    try:
        state = load(put_together(document, payload), tmp_path_factory.getbasetemp())
    except PackedError:
        return
    assert all(torch.equal(state[name], tensor) for name, tensor in sample().items() if name in state)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(1, 255)), min_size=1, max_size=6))
def test_random_bytes_under_a_fitting_digest_never_crash_or_take_much_memory(tmp_path_factory, original, edits):
    document, payload = taken_apart(original)
    whole = bytearray(put_together(document, payload)[8:])
    for place, change in edits:
        whole[place % len(whole)] ^= change
    text, rest = bytes(whole[: -len(payload)]), bytes(whole[-len(payload) :])
    digest = document["__metadata__"]["sha256"]
    assert digest == "0" * 64
    try:
        state = load(with_digest(text, rest), tmp_path_factory.getbasetemp())
    except PackedError:
        return
    assert sum(t.nbytes for t in state.values()) <= 64 * len(whole)


def test_a_folder_is_told_which_file_is_meant(tmp_path):
    with pytest.raises(IsADirectoryError, match=r"is a folder; name the packed file in it, model\.packed"):
        load_packed(tmp_path)
