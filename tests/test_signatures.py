"""What is read of a component's source is what importing it would tell."""

from __future__ import annotations

import pytest

from hmgan import components, signatures

OWN = list(components._builtin().values())


@pytest.mark.parametrize("found", OWN, ids=[f"{found.kind}-{found.name}" for found in OWN])
def test_a_signature_that_is_read_is_that_of_the_class(found: signatures.Registered) -> None:
    component = components.get(found.kind, found.name)
    assert (component.__module__, component.__name__) == (found.module, found.cls)
    assert signatures.read(found.module, found.cls) == signatures.inspected(component)


@pytest.mark.parametrize("found", OWN, ids=[f"{found.kind}-{found.name}" for found in OWN])
def test_every_component_and_every_option_of_one_has_a_sentence(found: signatures.Registered) -> None:
    signature = signatures.read(found.module, found.cls)
    assert signature.doc
    assert [name for name, option in signature.options.items() if not option.sentence] == []


def test_the_sentences_of_a_docstring_may_be_long_shared_and_followed_by_others() -> None:
    class Component:
        """A summary.

        Args:
            part: handed over, no setting.
            low, high: of the range; a sentence
                on two lines.

        Raises: nothing.
        """

        def __init__(self, part: object, *, low: int, high: float | None = None, silent: bool = False) -> None: ...

    assert signatures.inspected(Component).options == {
        "low": (int, signatures.REQUIRED, "of the range; a sentence on two lines."),
        "high": (float | None, None, "of the range; a sentence on two lines."),
        "silent": (bool, False, ""),
    }


def test_a_constructor_is_found_in_a_base_of_another_module() -> None:
    assert signatures.read("hmgan.train.engines.zero", "Zero1").options["config"].annotation == str | None
    assert signatures.read("hmgan.train.engines.replicated", "Replicated").options == {}
