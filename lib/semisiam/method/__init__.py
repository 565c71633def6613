"""The paper: labelled set, attack, pretext task, encoder, joint loss, linear SVM (section III).

Read in this order: `splits`, `attack`, `pretext`, `views`, `pipeline`, `model`, `training`,
`evaluation`, `trials`. No stage imports a later one.
"""
