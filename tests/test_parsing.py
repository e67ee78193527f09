"""What strangers write and what tools leave, read: any text gives what it says or one line of l2dm's own."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from l2dm import GenerateSettings, LearnSettings
from l2dm.errors import ExchangeError, SettingsError
from l2dm.exchange.files import file_of, read_file, with_head
from l2dm.generation.layout import PLACES, parse
from l2dm.settings import read_toml

CHECKS = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
_NAMES = st.from_regex(r"<[a-z][a-z0-9-]{0,8}>", fullmatch=True)
_SHARES = st.integers(0, 99).map(lambda hundredths: hundredths / 100)
_BOXES = st.tuples(_SHARES, _SHARES).flatmap(
    lambda low: st.tuples(
        *map(st.just, low), *(st.integers(round(100 * x) + 1, 100).map(lambda n: n / 100) for x in low)
    )
)


@CHECKS
@given(st.lists(st.tuples(_NAMES, st.sampled_from(sorted(PLACES)) | _BOXES), min_size=1, max_size=4))
def test_a_layout_says_where_each_thing_goes(entries):
    written = ", ".join(
        f"{name}: {place if isinstance(place, str) else ','.join(map(str, place))}" for name, place in entries
    )
    assert parse(written) == [(name, PLACES.get(place, place)) for name, place in entries]


@CHECKS
@given(st.text(alphabet="<rex>: ,;.0123456789-eft\n\x00é", max_size=40))
def test_any_layout_is_read_or_refused_in_a_line(text):
    try:
        for name, box in parse(text):
            assert name and len(box) == 4 and all(0 <= share <= 1 for share in box)
    except SettingsError as error:
        assert str(error).startswith("layout: ") and "\n" not in str(error)


def values(field: dataclasses.Field) -> st.SearchStrategy:
    """Any value that the setting may have."""
    low, high, choices = (field.metadata[name] for name in ("low", "high", "choices"))
    if choices:
        return st.sampled_from([*choices])
    kind = type(field.default)
    if kind is bool:
        return st.booleans()
    if kind is str:
        return st.just(field.default)
    numbers = st.integers if kind is int else st.floats
    return numbers(low, high)


@pytest.mark.parametrize("kind", [LearnSettings, GenerateSettings])
@CHECKS
@given(data=st.data())
def test_settings_come_back_from_a_file_as_they_were_written(kind, data, tmp_path):
    fields = data.draw(st.lists(st.sampled_from(dataclasses.fields(kind)), unique_by=lambda one: one.name))
    chosen = {field.name: data.draw(values(field)) for field in fields}
    file, table = tmp_path / "settings.toml", kind.__name__.removesuffix("Settings").lower()
    file.write_text(
        f"[{table}]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in chosen.items())
    )
    try:
        asked = kind(**chosen)
    except SettingsError:  # two that do not go together
        with pytest.raises(SettingsError):
            kind.of(read_toml(file, table))
    else:
        assert kind.of(read_toml(file, table)) == asked


@CHECKS
@given(st.binary(max_size=60) | st.text(alphabet="[learn]\nsteps=1.e'\"#{}", max_size=60).map(str.encode))
def test_any_settings_file_is_read_or_refused_in_a_line(tmp_path, content):
    file = tmp_path / "settings.toml"
    file.write_bytes(content)
    try:
        LearnSettings.of(read_toml(file, "learn"), place=str(file))
    except SettingsError as error:
        assert str(file) in str(error) and "\n" not in str(error)


_HEADS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@CHECKS
@given(
    st.dictionaries(st.text(max_size=12) | st.just("__metadata__"), _HEADS, max_size=4),
    st.binary(max_size=24),
)
def test_any_header_of_a_file_is_read_or_refused_in_a_line(tmp_path, head, tensors):
    file = tmp_path / "lora.safetensors"
    file.write_bytes(with_head(head, tensors))
    with pytest.raises(ExchangeError) as refused:
        read_file(file)
    assert str(file) in str(refused.value) and "\n" not in str(refused.value)


@CHECKS
@given(st.integers(0, 200), st.binary(max_size=8))
def test_a_file_that_lost_or_changed_bytes_is_whole_or_refused(tmp_path, at, bytes_there):
    whole = file_of({"a.alpha": torch.ones(2, 3)}, {"rank": 4})
    file = tmp_path / "lora.safetensors"
    for content in (whole[:at], whole[:at] + bytes_there + whole[at + len(bytes_there) :]):
        file.write_bytes(content)
        try:
            tensors, told = read_file(file)
            assert all(tensor.isfinite().all() for tensor in tensors.values()) and isinstance(told, dict)
        except ExchangeError as error:
            assert str(file) in str(error) and "\n" not in str(error)
