"""docs/reference/mask-rules.md, made from the registry: python tests/mask_rules_page.py"""

from pathlib import Path

from maskdistill.masks.registry import MaskRule, rules

PAGE = Path(__file__).parents[1] / "docs/reference/mask-rules.md"
HEAD = """\
# Mask rules

Made by `python tests/mask_rules_page.py` from `maskdistill/masks/rules/`.

A name holds the rule and its settings: first the values of the settings that must be given (capitals below),
then, in brackets, those that differ from their default. It is also the folder below `results/<run>/`.

- `masks.rule: NAME` makes the run's masks by that rule. The default is `maskdistill`: the settings are those
  of the section `masks`, and the folder is `topk-0.4`. Of that section other rules use `resize_mask` and
  `refine`.
- `baselines.masks: [NAME, ...]` scores masks by these rules beside the run's own.

Your own: [add a mask rule](../how-to/add-a-mask-rule.md).

| name | what it does | settings |
|---|---|---|
"""


def render() -> str:
    """The page."""
    return HEAD + "".join(_row(rule) for rule in rules().values() if not rule.package)


def _row(rule: MaskRule) -> str:
    fields = rule.params.model_fields.items() if rule.complete else ()
    settings = [
        f"`{name}`{'' if field.is_required() else f' ({field.default})'}: {field.description}"
        for name, field in fields
    ]
    name = rule.form if rule.complete else rule.name
    return f"| `{name}` | {rule.summary} | {'; '.join(settings) or 'section `masks`'} |\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
