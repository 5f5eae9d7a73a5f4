from __future__ import annotations

from serving.store.database import Database
from serving.store.models import AdapterRow
from serving.store.residency import EXPIRES_S, Report, Residencies
from serving.types import AdapterId, TenantId
from tests.store.conftest import ACME, OTHER, Clock


def adapter_row(
    name: str, version: int, state: str, *, pinned: bool = False, tenant: TenantId = ACME
) -> AdapterRow:
    return AdapterRow(
        tenant=tenant,
        name=name,
        version=version,
        state=state,
        pinned=pinned,
        sha256="0" * 64,
        manifest={},
        bytes=1,
        base_model="tiny",
        rank=8,
        alpha=16.0,
        target_modules=["q_proj"],
        metrics={},
        created_at=version,
        changed_at=version,
    )


def report(adapter: str, state: str = "ready") -> Report:
    return Report(AdapterId(adapter), state, leases=1, hits=2, load_ms=3.5)


def test_what_should_be_held_is_what_is_pinned_promoted_and_not_gone(db: Database) -> None:
    with db.session() as session:
        session.add(adapter_row("legal", 1, "retired", pinned=True))
        session.add(adapter_row("legal", 2, "deleted"))
        session.add(adapter_row("legal", 3, "promoted", pinned=True))
        session.add(adapter_row("legal", 4, "staged"))
        session.add(adapter_row("desk", 2, "staged", pinned=True, tenant=OTHER))
    held = [AdapterId(f"{ACME}/legal@{number}") for number in (1, 2, 3, 4, 9)]
    desired = Residencies(db).desired(held)
    assert desired.pinned == (f"{OTHER}/desk@2", f"{ACME}/legal@3")
    assert desired.promoted == {f"{ACME}/legal@3"}
    assert desired.gone == {f"{ACME}/legal@1", f"{ACME}/legal@2"}
    assert Residencies(db).desired([]).gone == frozenset()


def test_a_replica_says_what_it_holds_and_takes_back_the_rest(db: Database) -> None:
    residencies = Residencies(db)
    residencies.report("one", [report(f"{ACME}/a@1"), report(f"{OTHER}/b@1")])
    residencies.report("two", [report(f"{ACME}/a@1", "loading")])
    found = residencies.of(ACME)
    assert [(one.adapter, one.replica, one.state) for one in found] == [
        (f"{ACME}/a@1", "one", "ready"),
        (f"{ACME}/a@1", "two", "loading"),
    ]
    assert (found[0].hits, found[0].load_ms, found[0].leases) == (2, 3.5, 1)
    residencies.report("one", [])
    assert [one.replica for one in residencies.of(ACME)] == ["two"]
    assert residencies.of(TenantId("%")) == ()


def test_what_a_dead_replica_said_runs_out(db: Database, clock: Clock) -> None:
    residencies = Residencies(db, clock)
    residencies.report("dead", [report(f"{ACME}/a@1")])
    clock.now += EXPIRES_S + 1
    assert residencies.of(ACME) == ()
    residencies.report("alive", [])
    clock.now -= EXPIRES_S + 1
    assert residencies.of(ACME) == ()  # its rows are gone, not only hidden


def test_tenants_whose_names_differ_in_case_see_their_own_alone(db: Database) -> None:
    residencies = Residencies(db)
    residencies.report("one", [report(f"{ACME}/a@1"), report("Acme/b@1")])
    assert [one.adapter for one in residencies.of(TenantId("Acme"))] == ["Acme/b@1"]
    assert [one.adapter for one in residencies.of(ACME)] == [f"{ACME}/a@1"]
