"""What a ladder of three is worth on real outcomes, beside its pairs and other routers over three models.

Comes in: rows with scores of three models. Goes out: costs at a kept quality, AIQ, what an added rung costs, and how
often promises are broken on redraws.
"""
