"""Licence identifiers of the Hub, as a model card's metadata holds them.

Source of the identifiers: https://huggingface.co/docs/hub/repositories-licenses
"""

from __future__ import annotations

import difflib
import re

_NAMES = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0
lgpl lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0 odc-by odbl openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense
zlib pddl lgpl-lr unknown other
"""
KNOWN = frozenset(_NAMES.split())


def license_metadata(licence: str, link: str = "") -> dict[str, str]:
    """Returns `license`, and `license_name` and `license_link` for a licence without an identifier on the Hub.

    Args:
        licence: as the user wrote it; empty for none, which gives no metadata.
        link: address of its text.
    """
    if not licence:
        return {}
    name = licence.strip().lower()
    out = {"license": name} if name in KNOWN else {"license": "other", "license_name": slug(licence)}
    return out | ({"license_link": link} if link else {})


def closest_license(licence: str) -> str:
    """Returns the identifier most like an unknown licence; empty if it is known or none is alike."""
    name = re.sub(r"[\s_]+", "-", licence.strip().lower())
    if not name or licence.strip().lower() in KNOWN:
        return ""
    return next(iter(difflib.get_close_matches(name, sorted(KNOWN), n=1, cutoff=0.75)), "")


def slug(name: str) -> str:
    """Reduces a name to lower-case letters, digits, points and hyphens, as the Hub requires."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "unnamed"
