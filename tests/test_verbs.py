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
    """``versions``: number -> parent, concepts, the concept that it learnt, renamed or forgot, and its
    tokens, as the world should have them; None before ``init``. A concept is a number, so that one called
    otherwise is the same; ``concepts``: token -> it.
    """

    ground: Ground

    def __init__(self):
        super().__init__()
        self.place = self.ground.place / "machine"
        shutil.rmtree(self.place, ignore_errors=True)
        self.world, self.versions, self.head, self.counter, self.drawn = self.place / "world", None, 0, 0, 0
        self.concept = 0
        self.lesson = self.ground.place / "lesson.toml"
        lesson = {**LESSON, "method": "gated-kv-without-mixes", "steps": 1, "report_pictures": 0}.items()
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
        return self.versions[number][1] if number else {}

    def commit(self, concepts, concept, *tokens):
        self.counter += 1
        self.versions[self.counter] = self.head, concepts, concept, tokens
        self.head = self.counter

    def comes(self, token):
        self.concept += 1
        self.commit({**self.concepts, token: self.concept}, self.concept, token)

    def without(self, *concepts):
        return {t: c for t, c in self.concepts.items() if c not in concepts}

    def standing(self, number, gone):
        """The nearest version up to ``number`` that is not ``gone``."""
        while number in gone:
            number = self.versions[number][0]
        return number

    def put_aside(self, lost):
        left = {
            n: (self.standing(p, lost), *rest) for n, (p, *rest) in self.versions.items() if n not in lost
        }
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
            self.comes(token)
            assert said["version"] == self.head

    @precondition(lambda self: self.versions is not None)
    @rule(token=TOKENS)
    def forget(self, token):
        said = self.run("forget", self.world, token)
        if token in self.concepts:
            self.commit(self.without(self.concepts[token]), self.concepts[token], token)
            assert said["forgot"] == token
        else:
            assert "has not learnt it" in said

    @precondition(lambda self: self.versions is not None)
    @rule()
    def undo(self):
        said = self.run("undo", self.world)
        parent, concepts, _, tokens = self.versions.get(self.head, (0, {}, 0, ()))
        if not self.head:
            assert "nothing to undo" in said
        elif set(concepts) ^ set(self.concepts_of(parent)) != {*tokens}:
            assert f"more than {tokens[-1]}" in said
        else:
            del self.versions[self.head]
            self.head = parent
            assert said["version"] == self.head

    @precondition(lambda self: self.versions is not None)
    @rule(token=TOKENS, to=TOKENS)
    def rename(self, token, to):
        said = self.run("rename", self.world, token, to)
        if token not in self.concepts:
            assert "has learnt" in said
        elif to in self.concepts:
            assert "choose another token" in said
        else:
            concepts = {to if t == token else t: c for t, c in self.concepts.items()}
            self.commit(concepts, self.concepts[token], token, to)
            assert said["version"] == self.head

    @precondition(lambda self: self.versions is not None)
    @rule(token=TOKENS)
    def export_and_import(self, token):
        """Into the same world, in which it must have another name."""
        file = self.place / "exported.zip"
        file.unlink(missing_ok=True)
        self.run("export", self.world, "--format", "world", "--out", file)
        to = next((t for t in NOUNS if t not in self.concepts), token)
        taken = ("--token", token, "--as", to, "--settings", self.lesson)
        said = self.run("import", self.world, "--from", file, *taken)
        if token not in self.concepts:
            assert "has learnt" in said or "has a concept of this name" in said
        elif to in self.concepts:
            assert "has a concept of this name" in said
        else:
            self.comes(to)
            assert said["version"] == self.head

    @precondition(lambda self: self.versions is not None)
    @rule()
    def export_and_import_the_world(self):
        file, copy = self.place / "world.zip", self.place / "copy"
        file.unlink(missing_ok=True)
        shutil.rmtree(copy, ignore_errors=True)
        self.run("export", self.world, "--format", "world", "--out", file)
        assert self.run("import", copy, file)["version"] == self.head
        shutil.rmtree(self.world)
        copy.rename(self.world)

    @precondition(lambda self: self.versions is not None)
    @rule(token=TOKENS)
    def purge(self, token):
        said = self.run("forget", self.world, token, "--purge", "--yes")
        last = {c: t for n in sorted(self.versions) for t, c in self.concepts_of(n).items()}
        for _, _, concept, tokens in self.versions.values():
            last.setdefault(concept, tokens[-1])
        gone = {c for c, t in last.items() if t == token}
        if "purged" not in said:
            assert not gone and ("has nothing of it" in said or "now; purge that" in said)
            return

        def left(number):
            return {t: c for t, c in self.concepts_of(number).items() if c not in gone}

        first = min(
            (n for n in self.versions if gone & {*self.concepts_of(n).values(), self.versions[n][2]}),
            default=10**6,
        )
        own = {n for n, (p, _, c, _) in self.versions.items() if c in gone and set(left(n)) <= set(left(p))}
        later = [n for n in sorted(self.versions) if n >= first and n not in own]
        renamed = {n: number for number, n in enumerate(later, self.counter + 1)}
        self.counter += len(later)
        found = {}
        for n, (p, _, concept, tokens) in self.versions.items():
            if n in own:
                continue
            before = self.standing(p, own)
            if concept in gone:
                tokens = ([t for t in left(n) if t not in left(p)][-1],)
                concept = left(n)[tokens[0]]
            found[renamed.get(n, n)] = renamed.get(before, before), left(n), concept, tokens
        head = self.standing(self.head, own)
        self.versions, self.head = found, renamed.get(head, head)
        assert (said["purged"], said["version"]) == (token, self.head)
        names = [stay for stay in said["stays"] if f"the name {token}" in stay]
        for file in self.world.rglob("*") if not names else ():
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
        token = data.draw(st.sampled_from(list(self.concepts)))
        own = {n: self.world / f"versions/{n:04d}" / own_file(token) for n in self.versions}
        file = own[self.head]
        lost = {n for n, other in own.items() if other.exists() and other.samefile(file)}
        file.write_bytes(file.read_bytes()[:-1])
        left = self.without(self.concepts[token])
        if set(left) - set(self.concepts_of(max(set(self.versions) - lost, default=0))):
            self.commit(left, self.concepts[token], token)
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
        assert (shown["version"], [c["token"] for c in shown["concepts"]]) == (self.head, list(self.concepts))
        assert say(["verify", str(self.world)])[0] == 0
        assert {int(p.name) for p in self.world.glob("versions/*")} == set(self.versions)
        assert not [*self.world.rglob(".part-*"), *self.world.glob("learning")]


def explore(place, examples, steps):
    Verbs.ground = Ground(place.resolve())
    checks = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Verbs, settings=checks)


def test_verbs_in_any_order(tmp_path):
    explore(tmp_path, 2, 7)


@pytest.mark.slow
def test_many_verbs_in_any_order(tmp_path):
    explore(tmp_path, 60, 30)
