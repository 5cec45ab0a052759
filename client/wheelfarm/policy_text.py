"""A policy told in a few lines: what it holds, and which of its exceptions have expired."""

from collections.abc import Iterator
from datetime import datetime

from wheelfarm.policy import FollowUpstream, Policy, told

_FOLLOWED: dict[FollowUpstream, str] = {"yank": "yanked", "quarantine": "quarantined", "no": "kept"}


def rule_counts(policy: Policy) -> dict[str, int]:
    """How many entries of each kind a policy has, by the keys of the file."""
    return {
        "allow": len(policy.allow),
        "deny": len(policy.deny),
        "cooldown-exception": len(policy.cooldown_exceptions),
        "no-upload-time": len(policy.untimed),
        "hashes": len(policy.hashes),
        "prebuilt": len(policy.prebuilt),
    }


def policy_lines(policy: Policy, now: datetime) -> Iterator[str]:
    """What a policy says in short; exceptions that are over are named."""
    yield f"  cooldown: {told(policy.cooldown) if policy.cooldown else 'none'}"
    yield f"  yanked sdists: {'when pinned exactly' if policy.yanked == 'pinned' else 'never'}"
    yield f"  releases that upstream removes: {_FOLLOWED[policy.follow_upstream]}"
    yield f"  hashes with every request: {'required' if policy.require_hashes else 'not required'}"
    yield from (f"  {kind}: {count}" for kind, count in rule_counts(policy).items() if count)
    for prebuilt in policy.prebuilt:
        if not prebuilt.in_force(now):
            yield f"  expired on {prebuilt.expires}: prebuilt {prebuilt.filename}"
    for exception in policy.cooldown_exceptions:
        if now.date() > exception.expires:
            yield f"  expired on {exception.expires}: cooldown-exception of {exception.rule.project}"
