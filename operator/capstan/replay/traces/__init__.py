from dataclasses import dataclass
import numpy as np
from capstan.replay import trace as old
from capstan.replay.runs import Requests
from capstan.replay.trace import shared_data, TraceError
@dataclass
class T:
    requests: Requests; source: str
def cols(rs): return Requests(np.array([r.arrival_s for r in rs]),np.array([r.prompt_tokens for r in rs]),np.array([r.output_tokens for r in rs]))
def objs(q):
    from capstan.model.workload import Request
    return [Request(i,float(a),int(b),int(c)) for i,(a,b,c) in enumerate(zip(q.arrival_s,q.prompt_tokens,q.output_tokens))]
def read(path, columns=None): return T(cols(list(old.read(path))), path.name)
def repeat(q,n):
    d=1751.0
    return Requests(np.concatenate([q.arrival_s+i*d for i in range(n)]),np.tile(q.prompt_tokens,n),np.tile(q.output_tokens,n))
def compress(q,f,rate_ratio,seed): return cols(old.compress(objs(q),f,rate_ratio=rate_ratio,seed=seed))
def until(q,t):
    m=q.arrival_s<t
    return Requests(q.arrival_s[m],q.prompt_tokens[m],q.output_tokens[m])
def scale_rate(q,x,seed): raise NotImplementedError
