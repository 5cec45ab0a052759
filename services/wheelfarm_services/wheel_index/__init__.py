"""The wheel index: what was built, under which name, and the pages per target that installers read.

Publishing goes wheel, metadata, manifest (the commit), index entry, page; a crash between any two leaves nothing half
told, and publishing again goes on from there. Names are claimed for ever: a file name never means two contents.
"""

from wheelfarm_services.wheel_index.filenames import with_build_tag
from wheelfarm_services.wheel_index.index import WheelIndex, build_key
from wheelfarm_services.wheel_index.records import Manifest, Plan, PlannedRequirement

__all__ = ["Manifest", "Plan", "PlannedRequirement", "WheelIndex", "build_key", "with_build_tag"]
