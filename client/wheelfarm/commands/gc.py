"""`wheelfarm gc`: free the store of what nothing leads to any more."""

from typing import Any

import click

from wheelfarm.commands.command import reporting, shared_options
from wheelfarm.garbage import GarbageReport, GarbageRules


@click.command("gc")
@click.option("-n", "--dry-run", is_flag=True, help="Only tell what would go.")
@click.option("--older-than", "days", type=float, default=30.0, show_default=True, help="Days since the last use.")
@click.option("--local-mib", type=int, default=0, help="Keep no more than that of what clients sent, the newest.")
@click.option("--forget-target", "targets", multiple=True, help="A target that is no longer served, with its wheels.")
@shared_options
def gc_command(dry_run: bool, days: float, local_mib: int, targets: tuple[str, ...], **shared: Any) -> None:
    """Remove from the store what nothing leads to any more.

    Wheels on an index stay, with all that `wheelfarm why` tells of them, and so do the names that wheels were given.
    Safe while the farm builds; safe to interrupt and to repeat.
    """
    with reporting(**shared) as command:
        rules = GarbageRules.from_json(
            GarbageRules(unused_days=days, local_mib=local_mib, forgotten_targets=targets).to_json()
        )
        with command.farm() as farm:
            report = farm.collect_garbage(rules, dry_run=dry_run)
        command.answer(report.to_json(), _lines(report))


def _lines(report: GarbageReport) -> list[str]:
    verb = "would remove" if report.dry_run else "removed"
    lines = [f"{verb} {_counted(kind, found.objects, found.bytes)}" for kind, found in sorted(report.removed.items())]
    if report.unfinished_writes:
        lines.append(f"{verb} {report.unfinished_writes} unfinished writes")
    total = sum(found.bytes for found in report.removed.values())
    return [*lines, f"{total / (1 << 20):.1f} MiB in all" if lines else "nothing to remove"]


def _counted(kind: str, objects: int, size: int) -> str:
    return f"{kind}: {objects} object{'' if objects == 1 else 's'}, {size / (1 << 20):.1f} MiB"
