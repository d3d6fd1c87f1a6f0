"""The library calls behind the commands: plain arguments in, results out, nothing printed.

`mgen.prepare`, `mgen.pretrain`, `mgen.train_style_critic`, `mgen.finetune`, `mgen.generate`, `mgen.evaluate` and
`mgen.push` are defined here, one module each, and exported by `mgen`.
"""
