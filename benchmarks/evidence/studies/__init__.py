"""Studies that are no comparison of supervised nets, one module each.

Every module has `run(out)`, which resumes: trials that stand in the file `out`
are not run again. Its constants are the declaration.
"""
