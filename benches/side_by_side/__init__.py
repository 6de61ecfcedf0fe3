"""Side-by-side measurement of pingora, nginx, HAProxy and a byte-copying relay.

Every proxy serves the same origin under the same load with one worker on one CPU; origin and load generator
share the other CPU; rounds are interleaved, so that whatever else the machine does meets all of them alike.
"""
