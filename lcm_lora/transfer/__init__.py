"""Put the new adapter on other bases and beside styles, and measure it there.

A subject is a base with styles. It paints without the new adapter, in many steps and as classical
solvers do; with it; and in every mix of so much of the adapter and so much of the styles.
"""
