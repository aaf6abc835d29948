"""What a host recovery sees when it looks: the stored facts, Nova's view, and the verdict on both (safety rules 1 and 2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from masakari import hosts, proof, store
from masakari.common.errors import LeaseLost, MaybeSent, Rejected
from masakari.database import Tx
from masakari.model import Evidence, Recovery
from masakari.nova import Service
from masakari.recovery import Outcome, Visit, World, advance, end, hold

REPORTED_WITHIN_S = 60.0
"""How long before the first report a proof may be and still be about the same failure."""

ABSORB_S = 10.0
"""How long after an unfinished write of ours Nova's updated_at may still be our own doing: one read timeout."""


@dataclass(frozen=True, slots=True)
class Look:
    """One consistent view of the failed host. `service` None: Nova doesn't know it."""

    service: Service | None
    known: hosts.Known
    facts: proof.Facts
    verdict: proof.Verdict
    disables: list[hosts.Disable]
    down_since: float | None

    @property
    def ours(self) -> hosts.Disable | None:
        """The wish of an open or ended host recovery that Nova has shown, if any."""
        return next((d for d in self.disables if d.seen), None)


def proof_rules(world: World) -> proof.Rules:
    """[safety] as the pure core wants it."""
    safety = world.settings.safety
    return proof.Rules(
        clock_tolerance_s=safety.clock_tolerance_s,
        proof_valid_s=safety.proof_valid_s,
        node_err_wait_s=world.settings.recover_starter.node_err_wait,
        wait_for_nova=safety.without_proof == "wait_for_nova",
    )


def look(visit: Visit) -> Look:
    """Read the facts and Nova's service record, and judge."""
    return judge(visit, visit.world.nova.service(visit.recovery.hostname))


def judge(visit: Visit, service: Service | None) -> Look:
    """Judge by a service record that was read just now."""
    world, recovery = visit.world, visit.recovery

    def read(tx: Tx) -> tuple[hosts.Known, list[hosts.Disable]]:
        return hosts.known(tx, recovery.hostname, recovery.created_at), hosts.disables(tx, recovery.hostname)

    known, disables = world.db.transaction(read)
    told = nova_life(known, service, world.settings.safety.clock_tolerance_s)
    down_since = _down_since(recovery, service, visit.now, max((sign.at for sign in told), default=0.0))
    life = (*known.life, *told)
    facts = proof.Facts(known.proofs, life, down_since)
    verdict = proof.judge(facts, visit.now, proof_rules(world), requested=requested(recovery))
    return Look(service, known, facts, verdict, disables, down_since)


def still_proven(tx: Tx, visit: Visit, seen: Look) -> None:
    """In the transaction of an intent: raises LeaseLost when a sign of life or a cancel has come since the look."""
    recovery = visit.recovery
    known = hosts.known(tx, recovery.hostname, recovery.created_at)
    told = [sign for sign in seen.facts.life if sign.kind == "nova"]
    facts = replace(seen.facts, proofs=known.proofs, life=(*known.life, *told))
    current = store.get(tx, recovery.id)
    if current is None or current.cancel_by != recovery.cancel_by:
        raise LeaseLost(f"recovery {recovery.id} was cancelled meanwhile")
    if not proof.judge(facts, visit.now, proof_rules(visit.world), requested=requested(recovery)).valid:
        raise LeaseLost(f"{recovery.hostname} gave a sign of life meanwhile")


def requested(recovery: Recovery) -> bool:
    """Whether this recovery has sent an evacuation."""
    return bool(recovery.data.get("first_sent_at"))


def ever_requested(recovery: Recovery) -> bool:
    """The same, or before an operator's retry, which asks for new proof: its instances may be elsewhere."""
    return requested(recovery) or bool(recovery.data.get("sent_before"))


def rebooted(recovery: Recovery, known: hosts.Known) -> bool:
    """Whether the host has told of another boot than the one that failed."""
    failed_boot = recovery.data.get("boot_id")
    return bool(failed_boot and known.boot_id and known.boot_id != failed_boot)


def cancelled(visit: Visit) -> Outcome:
    """The operator's word: nothing new is requested; what is in flight is followed, our own disable is undone."""
    recovery = visit.recovery
    if requested(recovery) and recovery.step in ("reserve", "enable_target", "aggregates", "list"):
        return advance("evacuate", "cancelled: following what is in flight")
    by = recovery.cancel_by
    return advance("undo", f"cancelled by {by}", data={"end": ["cancelled", f"cancelled by {by}"]})


def reboot_proven(recovery: Recovery, known: hosts.Known) -> bool:
    """Whether the host is known to have been off in between, so that no guest of the failed boot can be running.

    A boot id alone may be news of a reboot long ago, and the host healthy all the time.
    """
    return any(proof_.at > recovery.created_at - REPORTED_WITHIN_S for proof_ in known.proofs)


def _down_since(recovery: Recovery, service: Service | None, now: float, told_at: float) -> float | None:
    """Since when Nova itself has been reporting the service down; what we forced ourselves is no evidence.

    `told_at`: its last report. One from after that time means that it was up in between, unseen.
    """
    kept = recovery.data.get("nova_down_since")
    if service is None or service.up:
        return None
    if service.forced_down:
        ours = recovery.data.get("isolated_at") or recovery.data.get("forced")
        return float(kept) if kept and ours else None
    return float(kept) if kept and told_at <= kept else now


def nova_life(known: hosts.Known, service: Service | None, tolerance_s: float) -> tuple[Evidence, ...]:
    """The service's last report as a sign of life, unless it was our own write that moved it."""
    if service is None or service.updated_at is None:
        return ()
    ours = known.own_write_at
    if known.own_write_open_at:
        ours = max(ours, known.own_write_open_at + tolerance_s + ABSORB_S)
    return (Evidence("nova", service.updated_at),) if service.updated_at > ours else ()


def reported(visit: Visit, seen: Look) -> bool:
    """Whether nova-compute has reported since our last write to its record."""
    return bool(nova_life(seen.known, seen.service, visit.world.settings.safety.clock_tolerance_s))


def write_service(
    visit: Visit,
    what: str,
    service: Service,
    call: Callable[[], str],
    *,
    reason: str = "",
    want: str | None = None,
    others_want: bool = False,
    reread: Callable[[], Service | None] | None = None,
    unseen: int | None = None,
) -> Service:
    """Change the service record in Nova, so that our own change is never taken for a sign of life.

    `want`: the disabled_reason of a disable this recovery wants from now on; the wish is committed with the intent.
    `unseen`: the recovery whose disable is taken back; enabled from here on is our own doing, and nobody's hand.
    Returns the service as `reread` (by default a plain question) finds it afterwards; raises what the port raises.
    """
    recovery = visit.recovery
    started = visit.now

    def begin(tx: Tx) -> None:
        if want is not None:
            hosts.want_disable(tx, recovery, service.enabled or others_want, want, started)
        if unseen is not None:
            tx.execute("disable_unseen", hostname=recovery.hostname, recovery_id=unseen)
        if service.updated_at is not None:
            hosts.add_evidence(tx, recovery, "nova", _baseline(tx, visit, service), started)
        hosts.add_evidence(tx, recovery, "own_open", started, started)

    try:
        visit.act(what, call, reason=reason, effects=[begin])
    except MaybeSent:
        pass
    except Rejected:
        _end_write(visit, service.updated_at)
        raise
    found = reread() if reread else visit.world.nova.service(recovery.hostname)
    after = found or replace(service, up=False)
    _end_write(visit, after.updated_at)
    return after


def _end_write(visit: Visit, updated_at: float | None) -> None:
    recovery, now = visit.recovery, visit.now

    def end(tx: Tx) -> None:
        hosts.add_evidence(tx, recovery, "own_done", now, now)
        if updated_at is not None:
            hosts.add_evidence(tx, recovery, "own", updated_at, now)

    visit.world.db.transaction(end)


def _baseline(tx: Tx, visit: Visit, service: Service) -> float:
    """The newest report of the service itself: what it reads now, unless that was our own write."""
    known = hosts.known(tx, visit.recovery.hostname, visit.now)
    seen = nova_life(known, service, visit.world.settings.safety.clock_tolerance_s)
    stored = max((sign.at for sign in known.life if sign.kind == "nova"), default=0.0)
    return max(stored, seen[0].at if seen else 0.0)


def hold_reason(visit: Visit, seen: Look) -> str:
    """Why the verdict holds the recovery; where proof is missing with what the observers say, since that tells what to mend."""
    recovery, reason = visit.recovery, seen.verdict.reason
    if seen.verdict.hold != "proof":
        return reason
    since = recovery.created_at - REPORTED_WITHIN_S
    words = visit.world.db.read(lambda tx: hosts.words_on(tx, recovery.hostname, recovery.id, since))
    wrong = [evidence for evidence in seen.known.wrong_bmc if evidence.at >= since]
    said = proof.quoted([*words, *wrong])
    return f"{reason}; {said}" if said else reason


def disable_reason(visit: Visit) -> str:
    """What an operator reads in `openstack compute service list`. Its beginning is how our own disables are known."""
    recovery, settings = visit.recovery, visit.world.settings
    section = settings.process_failure if recovery.kind == "process" else settings.host_failure
    return f"masakari recovery {recovery.id}: {section.service_disable_reason or f'{recovery.kind} failure'}"


def unknown_to_nova(visit: Visit) -> Outcome:
    """Rule 2: a host that Nova doesn't know is a failure, never a success with no instances."""
    near = _alike(visit)
    hint = f"; Nova knows {near}: the monitors must report that name" if near else ""
    return end("failed", f"Nova knows no nova-compute on {visit.recovery.hostname}{hint}")


def _alike(visit: Visit) -> str:
    """The hosts that Nova knows under nearly the same name."""
    short = visit.recovery.hostname.split(".")[0].lower()
    return ", ".join(s.host for s in visit.world.nova.services() if s.host.split(".")[0].lower() == short)


def whose_name(visit: Visit, known: hosts.Known) -> Outcome:
    """Nova doesn't know the host that was reported: failed if it is one (rule 2), and held while nobody knows which one it is."""
    recovery = visit.recovery
    if known.named_itself:
        return unknown_to_nova(visit)
    place = (recovery.cluster_port, recovery.hostname)
    found = [row["hostname"] for row in visit.world.db.read(lambda tx: hosts.declared(tx, [place]))[place]]
    if len(found) == 1:
        return end("ignored", f"it is {found[0]}: reported under that name from now on")
    near = _alike(visit)
    nova = f"Nova knows no nova-compute on {recovery.hostname}" + (f" (but on {near})" if near else "")
    told = f"{' and '.join(found)} told that pacemaker calls them so" if found else "no host told that this is its name"
    return hold(
        "name",
        f"{nova}, and {told}: nothing is done. Start the hostmonitor on that host, or set nova_hosts in hostmonitor.conf of the "
        "nodes that report it, so that it is reported under Nova's name",
        seconds=60.0,
    )
