"""What the pipeline's work costs, each beside what a user would do otherwise: `make bench`.

One module a subject; `harness` measures, `page` writes the table. Nothing here is part of the
package that is installed.
"""
