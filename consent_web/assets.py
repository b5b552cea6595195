"""Styles and scripts, read at start and served under names that contain a hash of the content.

The site's modules import each other by relative names, so they share one folder, named by the hash of all of them.
"""

import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).parent
_SDK = _HERE.parent / "sdk" / "js"
_TYPES = {".js": "text/javascript", ".ts": "application/typescript"}  # mimetypes takes .ts for video
_HASH_CHARS = 12  # 48 bits distinguish versions and fit in a URL


@dataclass(frozen=True, slots=True)
class Asset:
    """One file: its content and type."""

    body: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Assets:
    """The site's own files by name, and the folder of the browser SDK."""

    version: str
    own: dict[str, Asset]
    sdk_folder: Path

    @classmethod
    def load(cls, sdk_folder: Path = _SDK) -> "Assets":
        """Read `static/`. The SDK's files are read at each request, because a developer may change them meanwhile."""
        files = sorted((_HERE / "static").iterdir())
        own = {file.name: _asset(file) for file in files if file.suffix in {".js", ".css", ".svg"}}
        digest = hashlib.sha256(b"".join(name.encode() + asset.body for name, asset in own.items())).hexdigest()
        return cls(digest[:_HASH_CHARS], own, sdk_folder)

    def text(self, name: str) -> str:
        """Return the text of a file, for inlining in a page."""
        return self.own[name].body.decode()

    def path(self, name: str) -> str:
        """Return the URL path of one of the site's files."""
        return f"/static/{self.version}/{name}"

    def sdk(self, name: str) -> tuple[Asset, bool] | None:
        """Return a file of the SDK and whether `name` contains its hash (`client.<hash>.js`); None if there is none.

        For `client.js` the minified build is preferred; `client.d.ts` has the types.
        """
        stem, _, rest = name.partition(".")
        if not stem.replace("-", "").isalnum():
            return None
        endings = (".d.ts",) if rest == "d.ts" else (".min.js", ".js")
        file = next((file for end in endings if (file := self.sdk_folder / f"{stem}{end}").is_file()), None)
        if file is None:
            return None
        asset = _asset(file)
        if rest in {"js", "d.ts"}:
            return asset, False
        return (asset, True) if rest == f"{sdk_hash(asset)}.js" else None


def sdk_hash(asset: Asset) -> str:
    """Return the hash in an SDK file's immutable name."""
    return hashlib.sha256(asset.body).hexdigest()[:_HASH_CHARS]


def _asset(file: Path) -> Asset:
    kind = _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0]
    return Asset(file.read_bytes(), kind or "application/octet-stream")
