"""The fictional world: closed, seeded, stated in full."""

from stillroom.seeds import derive_rng
from stillroom.tasks.base import Style
from stillroom.tasks.facts import build_world, facts, facts_text


def test_the_world_is_a_function_of_its_seed() -> None:
    assert build_world(30, 1) == build_world(30, 1)
    assert not set(build_world(30, 1).facts["mentor"].items()) & set(build_world(30, 2).facts["mentor"].items())


def test_the_world_is_closed_and_consistent() -> None:
    world = build_world(2000, 5)
    assert len(set(world.people)) == len(set(world.towns)) == 2000
    assert not set(world.people) & set(world.towns)
    for relation in ("mentor", "friend"):
        table = world.facts[relation]
        assert sorted(table) == sorted(table.values()) == sorted(world.people)
        assert all(subject != found for subject, found in table.items())
    homes = world.facts["town"]
    assert world.facts["resident"] == {town: person for person, town in homes.items()}


def test_the_text_states_every_fact_twice() -> None:
    world = build_world(12, 0)
    sentences = list(facts_text(world))
    assert len(sentences) == len(set(sentences)) == 2 * 5 * 12
    person = world.people[0]
    assert f"The mentor of {person} is {world.facts['mentor'][person]}." in sentences
    assert f"In {world.facts['town'][person]} lives {person}." in sentences


def test_each_question_is_asked_once_over_all_splits_and_seeds_only_reorder() -> None:
    task = facts(entities=20)
    everything = [problem for split in ("train", "dev", "test") for problem in task.problems(split, None, 0)]
    questions = {problem.messages[-1].content for problem in everything}
    # 5 questions about one fact, and 3 ways to a person times 4 facts about them less the town of a town's resident.
    assert len(everything) == len(questions) == 20 * 5 + 20 * 11
    one, two = (task.problems("train", None, seed) for seed in (0, 1))
    assert one != two
    assert sorted(p.id for p in one) == sorted(p.id for p in two)
    assert {p.level for p in facts(entities=20, low=2).problems("train", None, 0)} == {2}


def test_a_wrong_first_hop_leads_to_a_true_fact_about_the_wrong_one() -> None:
    task, world = facts(), build_world()
    assert task.solve is not None
    for problem in facts(low=2).problems("train", 40, 0):
        for attempt in range(20):
            solution = task.solve(problem, Style(error_rate=0.5), derive_rng(attempt))
            first, second = (span.data["injected"] for span in solution.spans)
            if first and not second:
                relation, subject = problem.meta["hops"][1], solution.thought.split("(")[-1].split(")")[0]  # type: ignore[index, call-overload]
                assert world.facts[str(relation)][subject] == solution.answer
                assert solution.spans[1].data == {"correct": False, "injected": False}
                break
        else:
            raise AssertionError("no draw with an error in the first hop alone")
