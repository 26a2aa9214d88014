"""What one file says about one document, and several such files laid over one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pf_agent.config import services
from pf_agent.config.services import NO_PARTS, Parts
from pf_agent.model import DesiredState, DocumentKind, Place, Unmanaged


@dataclass(frozen=True)
class Layer:
    """What one file says about a document, such as an instance's main.cf; None: nothing.

    `instances` and `documents` are what it says about others by name, see DesiredState.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    use_default: frozenset[str] = frozenset()
    template: str | None = None
    provenance: Mapping[str, Place] = field(default_factory=dict)
    unmanaged: Unmanaged | None = None
    ignore: tuple[str, ...] = ()
    config_directory: str | None = None
    place: Place | None = None
    instances: Mapping[str, Layer] = field(default_factory=dict)
    kind: DocumentKind = DocumentKind.MAIN_CF
    documents: Mapping[str, Layer] = field(default_factory=dict)
    services: Parts = NO_PARTS

    def under(self, upper: Layer) -> Layer:
        """Return both in one; if both mention a part, `upper` applies."""
        kept = {n: value for n, value in self.settings.items() if n not in upper.use_default}
        return Layer(
            settings={**kept, **upper.settings},
            use_default=self.use_default.difference(upper.settings) | upper.use_default,
            template=upper.template or self.template,
            provenance={**self.provenance, **upper.provenance},
            unmanaged=upper.unmanaged or self.unmanaged,
            ignore=tuple(dict.fromkeys((*self.ignore, *upper.ignore))),
            config_directory=upper.config_directory or self.config_directory,
            place=self.place or upper.place,
            instances=_each_under(self.instances, upper.instances),
            kind=upper.kind,
            documents=_each_under(self.documents, upper.documents),
            services=services.laid_over(self.services, upper.services),
        )

    def state(self, config_directory: str | None = None) -> DesiredState:
        """Return the desired state that it amounts to, without instances."""
        return DesiredState(
            self.settings,
            self.use_default,
            self.template,
            self.provenance,
            self.unmanaged or Unmanaged.KEEP,
            self.ignore,
            config_directory,
            place=self.place,
            kind=self.kind,
            documents={
                **services.documents(self.services, config_directory),
                **{n: d.state() for n, d in self.documents.items() if d._says_anything()},
            },
        )

    def _says_anything(self) -> bool:
        """Whether a document is to be managed: `unset` may have left its table empty."""
        is_kept = self.unmanaged in (None, Unmanaged.KEEP)
        return bool(self.settings or self.use_default or not is_kept)


def _each_under(lower: Mapping[str, Layer], upper: Mapping[str, Layer]) -> dict[str, Layer]:
    return {**lower, **{n: lower[n].under(u) if n in lower else u for n, u in upper.items()}}
