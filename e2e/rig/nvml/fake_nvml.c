/* A libnvidia-ml.so.1 without a GPU: the calls that Capstan makes, on a state file (fake_nvml.h).
 *
 * CAPSTAN_FAKE_NVML_STATE names the file. Clocks off the supported grid and limits outside the constraints are
 * refused, so a caller that forgets to snap or to clamp is caught here rather than on hardware.
 */
#define _POSIX_C_SOURCE 200809L /* nanosleep */
#include "fake_nvml.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))

/* Return codes and field ids: nvml.h, API 13. */
enum {
  OK = 0,
  UNINITIALIZED = 1,
  INVALID_ARGUMENT = 2,
  NOT_SUPPORTED = 3,
  NO_PERMISSION = 4,
  NOT_FOUND = 6,
  INSUFFICIENT_SIZE = 7,
  DRIVER_NOT_LOADED = 9,
  TIMEOUT = 10,
  FUNCTION_NOT_FOUND = 13,
  GPU_IS_LOST = 15,
  RESET_REQUIRED = 16,
  LIB_RM_VERSION_MISMATCH = 18,
  IN_USE = 19,
  NO_DATA = 21,
  FREQ_NOT_SUPPORTED = 24,
  NOT_READY = 27,
  UNKNOWN = 999
};
enum { CLOCK_GRAPHICS = 0, CLOCK_SM = 1, CLOCK_MEM = 2 };
enum { FIELD_POWER_AVERAGE = 185, FIELD_POWER_INSTANT = 186 };
enum { TYPE_UNSIGNED_INT = 1 };

typedef struct capstan_nvml_gpu gpu_t;

typedef struct {
  unsigned field_id;
  unsigned scope_id;
  int64_t timestamp;
  int64_t latency_us;
  int value_type;
  int result;
  union {
    double d;
    unsigned u;
    unsigned long long ull;
  } value;
} field_value_t;

static struct capstan_nvml_state *state;
static int writable; /* the file's permissions stand for root: who cannot write it gets NO_PERMISSION */

/* For the test that compares the layout with state.py. */
API unsigned capstan_fake_nvml_layout_size(void) { return sizeof(struct capstan_nvml_state); }
API unsigned capstan_fake_nvml_gpu_size(void) { return sizeof(gpu_t); }
API unsigned capstan_fake_nvml_errors_offset(void) { return offsetof(gpu_t, errors); }
API unsigned capstan_fake_nvml_delays_offset(void) { return offsetof(gpu_t, delays_ms); }
API unsigned capstan_fake_nvml_energy_offset(void) { return offsetof(gpu_t, energy_mj); }

static int open_state(void) {
  const char *path = getenv("CAPSTAN_FAKE_NVML_STATE");
  if (path == NULL) return DRIVER_NOT_LOADED;
  int fd = open(path, O_RDWR);
  writable = fd >= 0;
  if (!writable) fd = open(path, O_RDONLY);
  if (fd < 0) return DRIVER_NOT_LOADED;
  struct stat st;
  int fits = fstat(fd, &st) == 0 && (size_t)st.st_size >= sizeof(*state);
  void *map = MAP_FAILED;
  if (fits) map = mmap(NULL, sizeof(*state), PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd, 0);
  close(fd);
  if (map == MAP_FAILED) return DRIVER_NOT_LOADED;
  struct capstan_nvml_state *found = map;
  if (found->magic != CAPSTAN_NVML_MAGIC || found->version != CAPSTAN_NVML_VERSION || found->size != sizeof(*state) ||
      found->gpu_count > CAPSTAN_NVML_GPUS) {
    munmap(map, sizeof(*state));
    return LIB_RM_VERSION_MISMATCH;
  }
  state = found;
  return OK;
}

/* The handle of instance n of a board in MIG mode lies n + 1 bytes behind the board's: it is no board's own, and every
 * call on a board refuses it, as NVML's setters do. */
static int is_board(const gpu_t *gpu) {
  for (unsigned i = 0; i < state->gpu_count; i++) {
    if (gpu == &state->gpus[i]) return 1;
  }
  return 0;
}

/* Wait as long as scripted: a hung call is one with a long delay, and comes back early when that is taken away. */
static void wait_as_scripted(const volatile gpu_t *gpu, enum capstan_nvml_call call) {
  const struct timespec step = {0, 1000000};
  for (unsigned waited_ms = 0; waited_ms < gpu->delays_ms[call]; waited_ms++) nanosleep(&step, NULL);
}

/* Is `gpu` one of ours, and is no error scripted for this call on it? */
static int scripted(const gpu_t *gpu, enum capstan_nvml_call call) {
  if (state == NULL) return UNINITIALIZED;
  if (!is_board(gpu)) return INVALID_ARGUMENT;
  wait_as_scripted(gpu, call);
  return (int)gpu->errors[call];
}

/* The same for calls that change the board. */
static int refused(const gpu_t *gpu, enum capstan_nvml_call call) {
  int failed = scripted(gpu, call);
  if (failed) return failed;
  return writable ? OK : NO_PERMISSION;
}

static int on_grid(const gpu_t *gpu, unsigned mhz) {
  return mhz >= gpu->min_clock_mhz && mhz <= gpu->max_clock_mhz && (mhz - gpu->min_clock_mhz) % gpu->clock_step_mhz == 0;
}

static int copy_text(const char *text, char *out, unsigned length) {
  if (strlen(text) + 1 > length) return INSUFFICIENT_SIZE;
  strcpy(out, text);
  return OK;
}

API int nvmlInitWithFlags(unsigned flags) {
  (void)flags;
  if (state == NULL) {
    int failed = open_state();
    if (failed) return failed;
  }
  return (int)state->init_error;
}
API int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

API int nvmlShutdown(void) {
  if (state == NULL) return UNINITIALIZED;
  munmap(state, sizeof(*state));
  state = NULL;
  return OK;
}

API const char *nvmlErrorString(int code) {
  switch (code) {
    case OK: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case NO_PERMISSION: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case INSUFFICIENT_SIZE: return "Insufficient Size";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case TIMEOUT: return "Timeout";
    case FUNCTION_NOT_FOUND: return "Function Not Found";
    case GPU_IS_LOST: return "GPU is lost";
    case RESET_REQUIRED: return "GPU requires reset";
    case LIB_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
    case IN_USE: return "In use by another client";
    case NO_DATA: return "No data";
    case FREQ_NOT_SUPPORTED: return "Requested frequency not supported";
    case NOT_READY: return "System not ready";
    default: return "Unknown Error";
  }
}

API int nvmlSystemGetDriverVersion(char *out, unsigned length) { return copy_text("580.00-capstan-fake", out, length); }

API int nvmlDeviceGetCount_v2(unsigned *count) {
  if (state == NULL) return UNINITIALIZED;
  *count = state->gpu_count;
  return (int)state->count_error;
}

API int nvmlDeviceGetHandleByIndex_v2(unsigned index, gpu_t **gpu) {
  if (state == NULL) return UNINITIALIZED;
  if (index >= state->gpu_count) return INVALID_ARGUMENT;
  *gpu = &state->gpus[index];
  return scripted(*gpu, CALL_HANDLE);
}

/* Instance n of the board GPU-<x> in MIG mode is MIG-<x>-<n>. */
static int is_instance(const gpu_t *gpu, unsigned number, const char *uuid) {
  char name[CAPSTAN_NVML_TEXT + 8];
  const char *board = strncmp(gpu->uuid, "GPU-", 4) == 0 ? gpu->uuid + 4 : gpu->uuid;
  snprintf(name, sizeof(name), "MIG-%s-%u", board, number);
  return gpu->mig && strcmp(name, uuid) == 0;
}

API int nvmlDeviceGetHandleByUUID(const char *uuid, gpu_t **gpu) {
  if (state == NULL) return UNINITIALIZED;
  for (unsigned i = 0; i < state->gpu_count; i++) {
    if (strncmp(state->gpus[i].uuid, uuid, CAPSTAN_NVML_TEXT) == 0) return nvmlDeviceGetHandleByIndex_v2(i, gpu);
    for (unsigned n = 0; n < CAPSTAN_NVML_MIG; n++) {
      if (!is_instance(&state->gpus[i], n, uuid)) continue;
      *gpu = (gpu_t *)((char *)&state->gpus[i] + 1 + n);
      return OK;
    }
  }
  return NOT_FOUND;
}

API int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(const gpu_t *instance, gpu_t **gpu) {
  if (state == NULL) return UNINITIALIZED;
  for (unsigned i = 0; i < state->gpu_count; i++) {
    ptrdiff_t number = (const char *)instance - (const char *)&state->gpus[i] - 1;
    if (!state->gpus[i].mig || number < 0 || number >= CAPSTAN_NVML_MIG) continue;
    *gpu = &state->gpus[i];
    return scripted(*gpu, CALL_MIG_PARENT);
  }
  return INVALID_ARGUMENT;
}

API int nvmlDeviceGetUUID(const gpu_t *gpu, char *out, unsigned length) {
  int failed = scripted(gpu, CALL_UUID);
  return failed ? failed : copy_text(gpu->uuid, out, length);
}

API int nvmlDeviceGetName(const gpu_t *gpu, char *out, unsigned length) {
  int failed = scripted(gpu, CALL_HANDLE);
  return failed ? failed : copy_text(gpu->name, out, length);
}

API int nvmlDeviceGetMigMode(const gpu_t *gpu, unsigned *current, unsigned *pending) {
  int failed = scripted(gpu, CALL_MIG_MODE);
  if (failed) return failed;
  *current = *pending = gpu->mig;
  return OK;
}

API int nvmlDeviceGetPowerUsage(const gpu_t *gpu, unsigned *mw) {
  int failed = scripted(gpu, CALL_POWER_USAGE);
  if (failed) return failed;
  *mw = gpu->power_mw;
  return OK;
}

API int nvmlDeviceGetFieldValues(const gpu_t *gpu, int count, field_value_t *values) {
  int failed = scripted(gpu, CALL_FIELD_VALUES);
  if (failed == GPU_IS_LOST || failed == UNINITIALIZED || failed == INVALID_ARGUMENT) return failed;
  for (int i = 0; i < count; i++) { /* as NVML: the call succeeds, each field has a code of its own */
    int known = values[i].field_id == FIELD_POWER_INSTANT || values[i].field_id == FIELD_POWER_AVERAGE;
    values[i].result = known ? failed : NOT_SUPPORTED;
    values[i].value_type = TYPE_UNSIGNED_INT;
    values[i].value.ull = 0;
    values[i].value.u = values[i].result == OK ? gpu->power_mw : 0;
  }
  return OK;
}

API int nvmlDeviceGetTotalEnergyConsumption(const gpu_t *gpu, unsigned long long *mj) {
  int failed = scripted(gpu, CALL_ENERGY);
  if (failed) return failed;
  *mj = gpu->energy_mj;
  return OK;
}

API int nvmlDeviceGetClockInfo(const gpu_t *gpu, int clock, unsigned *mhz) {
  int failed = scripted(gpu, CALL_CLOCK_INFO);
  if (failed) return failed;
  if (clock != CLOCK_SM && clock != CLOCK_GRAPHICS && clock != CLOCK_MEM) return INVALID_ARGUMENT;
  *mhz = clock == CLOCK_MEM ? gpu->memory_clock_mhz : gpu->sm_clock_mhz;
  return OK;
}

API int nvmlDeviceGetMaxClockInfo(const gpu_t *gpu, int clock, unsigned *mhz) {
  int failed = scripted(gpu, CALL_CLOCK_INFO);
  if (failed) return failed;
  *mhz = clock == CLOCK_MEM ? gpu->memory_clock_mhz : gpu->max_clock_mhz;
  return OK;
}

API int nvmlDeviceGetSupportedMemoryClocks(const gpu_t *gpu, unsigned *count, unsigned *clocks) {
  int failed = scripted(gpu, CALL_SUPPORTED_CLOCKS);
  if (failed) return failed;
  int fits = clocks != NULL && *count >= 1;
  *count = 1;
  if (!fits) return INSUFFICIENT_SIZE;
  clocks[0] = gpu->memory_clock_mhz;
  return OK;
}

API int nvmlDeviceGetSupportedGraphicsClocks(const gpu_t *gpu, unsigned memory, unsigned *count, unsigned *clocks) {
  int failed = scripted(gpu, CALL_SUPPORTED_CLOCKS);
  if (failed) return failed;
  if (memory != gpu->memory_clock_mhz) return NOT_FOUND;
  unsigned n = (gpu->max_clock_mhz - gpu->min_clock_mhz) / gpu->clock_step_mhz + 1;
  int fits = clocks != NULL && *count >= n;
  *count = n;
  if (!fits) return INSUFFICIENT_SIZE;
  for (unsigned i = 0; i < n; i++) clocks[i] = gpu->max_clock_mhz - i * gpu->clock_step_mhz; /* NVML: highest first */
  return OK;
}

API int nvmlDeviceSetGpuLockedClocks(gpu_t *gpu, unsigned low, unsigned high) {
  int failed = refused(gpu, CALL_SET_LOCKED_CLOCKS);
  if (failed) return failed;
  if (low > high || !on_grid(gpu, low) || !on_grid(gpu, high)) return INVALID_ARGUMENT;
  gpu->clock_writes++;
  if (gpu->ignores & IGNORES_CLOCKS) return OK;
  gpu->locked_min_mhz = low;
  gpu->locked_max_mhz = high;
  return OK;
}

API int nvmlDeviceResetGpuLockedClocks(gpu_t *gpu) {
  int failed = refused(gpu, CALL_RESET_LOCKED_CLOCKS);
  if (failed) return failed;
  gpu->locked_min_mhz = gpu->locked_max_mhz = 0;
  gpu->clock_writes++;
  return OK;
}

API int nvmlDeviceSetPowerManagementLimit(gpu_t *gpu, unsigned mw) {
  int failed = refused(gpu, CALL_SET_LIMIT);
  if (failed) return failed;
  if (mw < gpu->min_limit_mw || mw > gpu->max_limit_mw) return INVALID_ARGUMENT;
  gpu->limit_writes++;
  if (gpu->ignores & IGNORES_LIMITS) return OK;
  gpu->limit_mw = mw;
  return OK;
}

API int nvmlDeviceGetPowerManagementLimitConstraints(const gpu_t *gpu, unsigned *low, unsigned *high) {
  int failed = scripted(gpu, CALL_LIMIT_CONSTRAINTS);
  if (failed) return failed;
  *low = gpu->min_limit_mw;
  *high = gpu->max_limit_mw;
  return OK;
}

API int nvmlDeviceGetPowerManagementDefaultLimit(const gpu_t *gpu, unsigned *mw) {
  int failed = scripted(gpu, CALL_LIMIT_CONSTRAINTS);
  if (failed) return failed;
  *mw = gpu->default_limit_mw;
  return OK;
}

API int nvmlDeviceGetEnforcedPowerLimit(const gpu_t *gpu, unsigned *mw) {
  int failed = scripted(gpu, CALL_ENFORCED_LIMIT);
  if (failed) return failed;
  *mw = gpu->limit_mw;
  return OK;
}

API int nvmlDeviceGetPersistenceMode(const gpu_t *gpu, int *mode) {
  int failed = scripted(gpu, CALL_SET_PERSISTENCE);
  if (failed) return failed;
  *mode = (int)gpu->persistence;
  return OK;
}

API int nvmlDeviceSetPersistenceMode(gpu_t *gpu, int mode) {
  int failed = refused(gpu, CALL_SET_PERSISTENCE);
  if (failed) return failed;
  gpu->persistence = (unsigned)mode;
  return OK;
}

API int nvmlDeviceGetCurrentClocksEventReasons(const gpu_t *gpu, unsigned long long *reasons) {
  int failed = scripted(gpu, CALL_EVENT_REASONS);
  if (failed) return failed;
  *reasons = gpu->event_reasons;
  return OK;
}
