"""The second look: from the weak model's answers and their signals to a graph that says whether one may stand.

Comes in: labelled rows with answers, and what the first look says of rows that it has not seen. Goes out:
`checker.onnx`, and the second look's probabilities of rows that it has not seen, for policies and figures.
"""
