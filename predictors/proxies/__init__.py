"""Zero-cost proxies: what one batch tells of an untrained network. Adding a file here adds one.

They are features for a fitted surrogate, not a ranking by themselves: which of them is right, and with which sign, changes
with the space and the task.
"""

from nas.predictors.proxies.base import LIMIT, Proxy, proxy, proxy_names, proxy_scores, register_proxy

__all__ = ["LIMIT", "Proxy", "proxy", "proxy_names", "proxy_scores", "register_proxy"]
