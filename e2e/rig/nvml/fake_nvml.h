/* The state file of one simulated node: the layout that the fake libnvidia-ml.so.1 and rig/nvml/state.py share.
 *
 * One file per node, little endian, packed; every field lies on its own alignment, so a 4- or 8-byte write is seen
 * whole by the other process. The setter writes locks and limits (through NVML), the simulator writes power, energy
 * and clocks. Change a field here: raise CAPSTAN_NVML_VERSION and mirror it in state.py (a test compares both).
 */
#ifndef CAPSTAN_FAKE_NVML_H
#define CAPSTAN_FAKE_NVML_H

#include <stdint.h>

#define CAPSTAN_NVML_MAGIC 0x4c4d564eu /* "NVML" */
#define CAPSTAN_NVML_VERSION 2u
#define CAPSTAN_NVML_GPUS 16
#define CAPSTAN_NVML_TEXT 64
#define CAPSTAN_NVML_MIG 7 /* instances of a board in MIG mode; the most that one can have */

/* Calls whose return code and delay a test may script per GPU; the order is that of state.Call. */
enum capstan_nvml_call {
  CALL_HANDLE,
  CALL_POWER_USAGE,
  CALL_FIELD_VALUES,
  CALL_ENERGY,
  CALL_CLOCK_INFO,
  CALL_SUPPORTED_CLOCKS,
  CALL_SET_LOCKED_CLOCKS,
  CALL_RESET_LOCKED_CLOCKS,
  CALL_SET_LIMIT,
  CALL_LIMIT_CONSTRAINTS,
  CALL_ENFORCED_LIMIT,
  CALL_SET_PERSISTENCE,
  CALL_EVENT_REASONS,
  CALL_MIG_MODE,
  CALL_UUID,
  CALL_MIG_PARENT,
  CALLS_HELD = 24
};

enum { IGNORES_CLOCKS = 1, IGNORES_LIMITS = 2 };

struct __attribute__((packed)) capstan_nvml_gpu {
  char uuid[CAPSTAN_NVML_TEXT];
  char name[CAPSTAN_NVML_TEXT];
  uint32_t min_clock_mhz; /* supported graphics clocks: min, min + step, ... max */
  uint32_t max_clock_mhz;
  uint32_t clock_step_mhz;
  uint32_t memory_clock_mhz;
  uint32_t locked_min_mhz; /* 0: no lock */
  uint32_t locked_max_mhz;
  uint32_t limit_mw;
  uint32_t default_limit_mw;
  uint32_t min_limit_mw;
  uint32_t max_limit_mw;
  uint32_t sm_clock_mhz; /* written by the simulator, as the next three */
  uint32_t power_mw;
  uint64_t energy_mj;
  uint64_t event_reasons;
  uint32_t persistence;
  uint32_t mig;
  uint32_t clock_writes; /* successful NVML writes since the file was created */
  uint32_t limit_writes;
  uint32_t ignores; /* IGNORES_...: accepted with OK, counted as a write, and without effect */
  uint32_t reserved;
  uint32_t errors[CALLS_HELD];    /* NVML return code per call; 0: works */
  uint32_t delays_ms[CALLS_HELD]; /* how long each call takes before it answers; looked at again all the while */
};

struct __attribute__((packed)) capstan_nvml_state {
  uint32_t magic;
  uint32_t version;
  uint32_t size; /* of this struct, in bytes */
  uint32_t gpu_count;
  uint32_t init_error; /* NVML return code of nvmlInit */
  uint32_t count_error; /* NVML return code of nvmlDeviceGetCount */
  struct capstan_nvml_gpu gpus[CAPSTAN_NVML_GPUS];
};

#endif
