"""Throwaway stand-in."""
from __future__ import annotations
from collections import deque
from dataclasses import dataclass
import numpy as np
from capstan.model.workload import Request
from capstan.model import power
from capstan.replay.world import Engine
FREE, STARTING, READY, DRAINING = 0, 1, 2, 3
DT = np.dtype([("state","i8"),("serial","i8"),("running","i8"),("waiting","i8"),("kv_tokens","i8")])

@dataclass
class Totals:
    running: int; waiting: int; kv_usage: float; serving_j: float; idle_j: float; transition_j: float
    @property
    def energy_j(self): return self.serving_j+self.idle_j+self.transition_j

class World:
    def __init__(self, requests, profiles, *, slots, bin_s, end_s):
        self.requests, self.profiles = requests, profiles
        n=len(requests)
        self.first_s=np.full(n,np.nan); self.finish_s=np.full(n,np.nan); self.max_tbt_s=np.full(n,np.nan)
        self.finished=np.zeros(n,dtype=np.int64); self.finished_count=0
        self.replicas=np.zeros(slots,dtype=DT)
        self._e=[None]*slots; self._j=np.zeros(slots); self._base=np.zeros(slots); self._ready=[0.0]*slots
        self._held=deque(); self._next=0; self.now_s=0.0; self._gone=[]; self._serial=0
        self.unfinished=n; self.refused=0
    @property
    def unrouted(self): return len(self._held)
    def create(self, profile, *, now_s, ready_s):
        slot=next(i for i,e in enumerate(self._e) if e is None)
        p=self.profiles[profile]
        self._e[slot]=Engine(p,now_s=now_s,chunk_tokens=p.chunk_tokens,max_num_seqs=p.max_num_seqs)
        self._base[slot]=self._j[slot]
        self._ready[slot]=ready_s; self.replicas[slot]["serial"]=self._serial; self._serial+=1
        self.replicas[slot]["state"]=READY if ready_s<=now_s else STARTING
        return slot
    def drain(self, slot):
        self.replicas[slot]["state"]=DRAINING
        if self._e[slot].idle: self._free(slot)
    def _free(self, slot):
        self._j[slot]=self._base[slot]+self._e[slot].energy_j
        self._e[slot]=None; self.replicas[slot]["state"]=FREE; self._gone.append(slot)
    def take_gone(self):
        g,self._gone=self._gone,[]; return g
    def cap(self, slot, now_s, ratio, limit):
        e=self._e[slot]; mhz=None if ratio>=1 else ratio*e.profile.clocks.max_mhz+1e-6
        e.set_caps(now_s,clock_cap_mhz=mhz,power_limit_w=None if limit==float("inf") else limit)
    def _adv(self,t):
        for s,e in enumerate(self._e):
            if e is None: continue
            for em in e.advance(t,tokens=False):
                if em.first: self.first_s[em.request_id]=em.t_s
                if em.finished:
                    self.finish_s[em.request_id]=em.t_s; self.finished[self.finished_count]=em.request_id
                    self.finished_count+=1; self.unfinished-=1
    def _route(self,i,t):
        ready=[s for s,e in enumerate(self._e) if e is not None and self.replicas[s]["state"]!=DRAINING and self._ready[s]<=t]
        r=self.requests
        req=Request(i,float(r.arrival_s[i]),int(r.prompt_tokens[i]),int(r.output_tokens[i]))
        if not ready: self._held.append(i); return
        s=min(ready,key=lambda s:self._e[s].running+self._e[s].waiting)
        if not self._e[s].fits(req): self.refused+=1; self.unfinished-=1; return
        self._e[s].submit(req,t)
    def advance(self,to_s):
        while self._next<len(self.requests) and self.requests.arrival_s[self._next]<=to_s:
            t=float(self.requests.arrival_s[self._next]); self._adv(t); self._route(self._next,t); self._next+=1
        self._adv(to_s); self.now_s=to_s
        for s,e in enumerate(self._e):
            if e is None: continue
            if self.replicas[s]["state"]==STARTING and self._ready[s]<=to_s: self.replicas[s]["state"]=READY
            self.replicas[s]["running"]=e.running; self.replicas[s]["waiting"]=e.waiting
            self.replicas[s]["kv_tokens"]=int(e.kv_usage*e.profile.kv_tokens)
            self._j[s]=self._base[s]+e.energy_j
            if self.replicas[s]["state"]==DRAINING and e.idle: self._free(s)
        if any(self._ready[s]<=to_s and e is not None for s,e in enumerate(self._e)):
            h,self._held=list(self._held),deque()
            for i in h: self._route(i,to_s)
    def energy_j(self): return self._j
    def totals(self):
        live=[e for e in self._e if e is not None]
        return Totals(sum(e.running for e in live),sum(e.waiting for e in live),max((e.kv_usage for e in live),default=0.0),float(self._j.sum()),0.0,0.0)
