"""`hmgan explore`: a page in the browser to explore models with."""

from __future__ import annotations

import webbrowser
from pathlib import Path

from hmgan.errors import UserError
from hmgan.explore.gallery import Gallery
from hmgan.explore.server import LOCAL, Server
from hmgan.models.looks import Look
from hmgan.models.model import Model, load
from hmgan.options.pictures import ExploreOptions


def explore(options: ExploreOptions) -> None:
    """Serves the page until Ctrl-C. Raises UserError for a model that is not there, or a port that is taken."""
    gallery = Gallery(named([str(path) for path in options.models]))
    for model in gallery.models.values():  # the first picture of a process takes longer: not at a reader's cost
        list(model.drawn([Look((0,), model.pure(0))]))
    try:
        server = Server(gallery, options.host, options.port, options.names)
    except (OSError, OverflowError) as error:
        raise UserError(f"{options.host} port {options.port} is not to be had ({error}); give another --port") from None
    with server:
        print(f"{server.url}  (Ctrl-C ends it)", flush=True)
        if options.host not in LOCAL:
            print("anybody who reaches this machine can see the page", flush=True)
        if options.browser:
            webbrowser.open(server.url)
        server.serve_forever()


def named(places: list[str]) -> dict[str, Model]:
    """The models under short names of their own: no path of this machine is shown."""
    models: dict[str, Model] = {}
    for place in places:
        path = Path(place)
        name = place if not path.exists() else path.resolve().name
        while name in models:
            name += "'"
        models[name] = load(place)
    return models
