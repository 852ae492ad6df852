"""The wire: where protobuf meets our own types, and nowhere else.

Comes in: messages of `turnout.v1`. Goes out: frozen types, and the messages made from them.
"""
