"""Any verbs in any order: a world is always what a model of a few lines says."""

from __future__ import annotations

import copy
import json
import shutil
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from benchmarks.stress.ground import LESSON, Ground, say
from l2dm.backbone import Backbone
from l2dm.world.names import own_file

NOUNS = {"<rex>": "dog", "<tom>": "cat", "<ada>": "cup"}
TOKENS = st.sampled_from(list(NOUNS))


class Verbs(RuleBasedStateMachine):
    """``versions``: number -> parent, concepts and the concept that it learnt or forgot, as the world should have them; None before
    ``init``. ``told``: concepts that its journal tells of."""

    ground: Ground

    def __init__(self):
        super().__init__()
        self.place = self.ground.place / "machine"
        shutil.rmtree(self.place, ignore_errors=True)
        self.world, self.versions, self.head, self.counter, self.drawn = self.place / "world", None, 0, 0, 0
        self.told = set()
        self.lesson = self.ground.place / "lesson.toml"
        lesson = {**LESSON, "method": "isolated-without-mixes", "steps": 1, "previews": 0}.items()
        self.lesson.write_text("[learn]\n" + "".join(f"{n} = {json.dumps(value)}\n" for n, value in lesson))

    @property
    def concepts(self):
        return self.concepts_of(self.head)

    def run(self, *arguments):
        """The answer, or the message of the refusal."""
        load = mock.patch.object(Backbone, "load", lambda *a, **k: copy.deepcopy(self.ground.backbone))
        with load:
            code, said = say([*map(str, arguments), "--json"])
        assert code in (0, 2) and len(said.splitlines()) == 1, said
        answer = json.loads(said)
        return answer.get("message", answer)

    def concepts_of(self, number):
        return self.versions[number][1] if number else ()

    def commit(self, concepts, token):
        self.counter += 1
        self.versions[self.counter] = self.head, concepts, token
        self.head = self.counter

    def standing(self, number, gone):
        """The nearest version up to ``number`` that is not ``gone``."""
        while number in gone:
            number = self.versions[number][0]
        return number

    def put_aside(self, lost):
        left = {n: (self.standing(p, lost), c, t) for n, (p, c, t) in self.versions.items() if n not in lost}
        self.head, self.versions = max(left, default=0) if self.head in lost else self.head, left

    @rule()
    def init(self):
        said = self.run("init", self.world, "--base", self.ground.base)
        if self.versions is None:
            self.versions = {}
            assert said["version"] == 0
        else:
            assert "already exists" in said

    @rule(token=TOKENS)
    def learn(self, token):
        command = ("learn", self.world, self.ground.photos, "--token", token, "--noun", NOUNS[token])
        said = self.run(*command, "--settings", self.lesson)
        if self.versions is None:
            assert "no world here" in said
        elif token in self.concepts:
            assert "learnt it already" in said
        else:
            self.commit((*self.concepts, token), token)
            self.told.add(token)
            assert said["version"] == self.head

    @precondition(lambda self: self.versions is not None)
    @rule(token=TOKENS)
    def forget(self, token):
        said = self.run("forget", self.world, token)
        if token in self.concepts:
            self.commit(tuple(t for t in self.concepts if t != token), token)
            assert said["forgot"] == token
        else:
            assert "has not learnt it" in said

    @precondition(lambda self: self.versions is not None)
    @rule()
    def undo(self):
        said = self.run("undo", self.world)
        parent, concepts, token = self.versions.get(self.head, (0, (), ""))
        if not self.head:
            assert "nothing to undo" in said
        elif set(concepts) ^ set(self.concepts_of(parent)) != {token}:
            assert f"more than {token}" in said
        else:
            del self.versions[self.head]
            self.head = parent
            assert said["version"] == self.head

    @precondition(lambda self: self.versions is not None)
    @rule(token=TOKENS)
    def purge(self, token):
        said = self.run("forget", self.world, token, "--purge", "--yes")
        if token not in self.told:
            assert "has nothing of it" in said
            return
        own = {n for n, version in self.versions.items() if version[2] == token}
        first = min((n for n, (_, held, t) in self.versions.items() if token in (t, *held)), default=0)
        later = [n for n in sorted(self.versions) if first and n > first and n not in own]
        renamed = {n: number for number, n in enumerate(later, self.counter + 1)}
        self.counter += len(later)
        self.versions, self.head = {
            renamed.get(n, n): (
                renamed.get(before := self.standing(p, own), before), tuple(t for t in c if t != token), learnt
            )
            for n, (p, c, learnt) in self.versions.items()
            if n not in own
        }, renamed.get(head := self.standing(self.head, own), head)  # fmt: skip
        self.told.discard(token)
        assert (said["purged"], said["version"]) == (token, self.head)
        for file in self.world.rglob("*"):
            assert f"-{token[1:-1]}." not in file.name and (
                file.is_dir() or token.encode() not in file.read_bytes()
            )

    @precondition(lambda self: self.versions is not None)
    @rule(token=TOKENS)
    def generate(self, token):
        out = self.place / "pictures"
        said = self.run("generate", self.world, f"a {token} thing", "-n", "1", "--steps", "1", "--out", out)
        if token in self.concepts:
            self.drawn += 1
            assert len(said["files"]) == 1 and len(list(out.glob("*[0-9].png"))) == self.drawn
        else:
            assert f"{token} is not in this world" in said

    @precondition(lambda self: self.versions is not None)
    @rule()
    def report(self):
        assert self.run("report", self.world)["report"]["concepts"] == []

    @precondition(lambda self: self.versions)
    @rule(data=st.data())
    def damage_and_repair(self, data):
        number = data.draw(st.sampled_from(sorted(self.versions)))
        file = self.world / f"versions/{number:04d}/tokens.safetensors"
        file.write_bytes(file.read_bytes()[:-1])
        assert say(["verify", str(self.world)])[0] == 2
        self.put_aside({number})
        assert self.run("repair", self.world)["version"] == self.head

    @precondition(lambda self: self.versions and self.concepts)
    @rule(data=st.data())
    def damage_a_concept_and_repair(self, data):
        """Of the present version the rest is kept, unless the newest whole version holds all of that."""
        token = data.draw(st.sampled_from(self.concepts))
        own = {n: self.world / f"versions/{n:04d}" / own_file(token) for n in self.versions}
        file = own[self.head]
        lost = {n for n, other in own.items() if other.exists() and other.samefile(file)}
        file.write_bytes(file.read_bytes()[:-1])
        left = tuple(t for t in self.concepts if t != token)
        if set(left) - set(self.concepts_of(max(set(self.versions) - lost, default=0))):
            self.commit(left, token)
        self.put_aside(lost)
        assert self.run("repair", self.world)["version"] == self.head

    @precondition(lambda self: self.versions is not None)
    @rule()
    def repair_nothing(self):
        assert self.run("repair", self.world)["version"] == self.head

    @invariant()
    def the_world_is_as_the_model_says(self):
        if self.versions is None:
            assert not self.world.exists()
            return
        shown = self.run("show", self.world)
        assert (shown["version"], tuple(c["token"] for c in shown["concepts"])) == (self.head, self.concepts)
        assert say(["verify", str(self.world)])[0] == 0
        assert {int(p.name) for p in self.world.glob("versions/*")} == set(self.versions)
        assert not [*self.world.rglob(".part-*"), *self.world.glob("learning")]


def explore(place, examples, steps):
    Verbs.ground = Ground(place.resolve())
    checks = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    run_state_machine_as_test(Verbs, settings=checks)


def test_verbs_in_any_order(tmp_path):
    explore(tmp_path, 2, 7)


@pytest.mark.slow
def test_many_verbs_in_any_order(tmp_path):
    explore(tmp_path, 60, 30)
