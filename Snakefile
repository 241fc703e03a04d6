# The workflow is in workflow/, as the catalog of Snakemake workflows has it; run in the checkout it is the
# whole reproduction.


include: "workflow/Snakefile"


# An included file's first rule is not the default target.
workflow.default_target = "all"
