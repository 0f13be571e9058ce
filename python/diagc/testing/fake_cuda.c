/* A libcuda for tests on machines without a GPU: counts, records, fails on demand.
 *
 * Handles are small numbers: contexts 0x100 + device, modules 0x1000 + n, functions 0x2000 + n.
 * Every call appends a line to a log. "Device memory" is the host's, so that a function called
 * "add" can really add: see run_add.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef int Result;
enum { OK = 0, INVALID_VALUE = 1, INVALID_IMAGE = 200, NO_BINARY = 209, NOT_FOUND = 500 };
enum { MODULES = 256, FUNCTIONS = 1024, STACK = 64, SIZES = 64 };

static char log_text[1 << 20];
static size_t log_length;
static struct { char function[64]; int code; int after; } failure;
static int version = 13000, devices = 2, major = 8, minor = 0, shared_bytes = 166912, capturing;
static int loaded[MODULES], module_count, function_count, retained;
static char names[FUNCTIONS][64];
static int parameter_sizes[SIZES], parameter_count;
static __thread uintptr_t stack[STACK];
static __thread int depth;
static __thread int capture_mode;
static int quiet;

#define LOG(...) /* what does not fit is left out */                        \
  if (!quiet) do {                                                           \
    size_t room_ = sizeof log_text - log_length;                             \
    size_t used_ = (size_t)snprintf(log_text + log_length, room_, __VA_ARGS__); \
    log_length += used_ < room_ ? used_ : 0;                                 \
  } while (0)

/* ---- what tests call ------------------------------------------------------------------------ */

void fake_reset(void) {
  log_length = 0, log_text[0] = 0, failure.function[0] = 0;
  version = 13000, devices = 2, major = 8, minor = 0, shared_bytes = 166912, capturing = 0;
  parameter_count = 0, depth = 0, quiet = 0;
}
void fake_quiet(int on) { quiet = on; }
const char *fake_log(void) { return log_text; }
void fake_clear_log(void) { log_length = 0, log_text[0] = 0; }
void fake_fail(const char *function, int code, int after) {
  snprintf(failure.function, sizeof failure.function, "%s", function);
  failure.code = code, failure.after = after;
}
void fake_machine(int v, int d, int ma, int mi, int shared) {
  version = v, devices = d, major = ma, minor = mi, shared_bytes = shared;
}
void fake_capture(int on) { capturing = on; }
void fake_parameters(const int *sizes, int count) {
  memcpy(parameter_sizes, sizes, count * sizeof *sizes), parameter_count = count;
}
int fake_loaded(void) {
  int total = 0;
  for (int i = 0; i < module_count; i++) total += loaded[i];
  return total;
}
int fake_retained(void) { return retained; }
int fake_depth(void) { return depth; }
int fake_capture_mode(void) { return capture_mode; }
void fake_push(uintptr_t context) { stack[depth++] = context; }

/* ---- the driver API ------------------------------------------------------------------------- */

static int fails(const char *function) {
  if (strcmp(failure.function, function) || failure.after-- > 0) return 0;
  failure.function[0] = 0;
  return failure.code;
}
#define BEGIN                             \
  do {                                    \
    int code_ = fails(__func__);          \
    if (code_) {                          \
      LOG("%s -> %d\n", __func__, code_); \
      return code_;                       \
    }                                     \
  } while (0)

Result cuInit(unsigned flags) {
  BEGIN;
  (void)flags;
  return devices ? OK : 100;
}
Result cuDriverGetVersion(int *out) {
  BEGIN;
  *out = version;
  return OK;
}
Result cuGetErrorName(int code, const char **out) {
  static __thread char text[32];
  snprintf(text, sizeof text, "CUDA_ERROR_%d", code);
  *out = text;
  return OK;
}
Result cuGetErrorString(int code, const char **out) {
  static __thread char text[32];
  snprintf(text, sizeof text, "text of %d", code);
  *out = text;
  return OK;
}
Result cuDeviceGet(int *out, int index) {
  BEGIN;
  if (index < 0 || index >= devices) return 101;
  *out = 10 + index; /* not the index, so that a mix-up shows */
  return OK;
}
Result cuDeviceGetName(char *out, int length, int device) {
  BEGIN;
  snprintf(out, length, "Fake GPU %d", device - 10);
  return OK;
}
Result cuDeviceGetAttribute(int *out, int attribute, int device) {
  BEGIN;
  (void)device;
  *out = attribute == 75 ? major : attribute == 76 ? minor : attribute == 97 ? shared_bytes
         : attribute == 16 ? 4 : -1;
  return OK;
}
Result cuDevicePrimaryCtxRetain(void **out, int device) {
  BEGIN;
  retained++;
  *out = (void *)(uintptr_t)(0x100 + device - 10);
  return OK;
}
Result cuDevicePrimaryCtxRelease_v2(int device) {
  (void)device;
  retained--;
  return OK;
}
Result cuCtxGetCurrent(void **out) {
  BEGIN;
  *out = (void *)(depth ? stack[depth - 1] : 0);
  return OK;
}
Result cuCtxPushCurrent_v2(void *context) {
  BEGIN;
  LOG("push %#lx\n", (unsigned long)(uintptr_t)context);
  stack[depth++] = (uintptr_t)context;
  return OK;
}
Result cuCtxPopCurrent_v2(void **out) {
  if (!depth) return 201;
  *out = (void *)stack[--depth];
  LOG("pop %#lx\n", (unsigned long)(uintptr_t)*out);
  return OK;
}
Result cuThreadExchangeStreamCaptureMode(int *mode) {
  int old = capture_mode;
  capture_mode = *mode, *mode = old;
  return OK;
}
Result cuModuleLoadDataEx(void **out, const void *image, unsigned count, int *options,
                          void **values) {
  const char *kind = !memcmp(image, "\177ELF", 4) ? "cubin" : "ptx";
  LOG("load %s ctx %#lx mode %d\n", kind, depth ? (unsigned long)stack[depth - 1] : 0,
      capture_mode);
  for (unsigned i = 0; i < count; i++)
    if (options[i] == 5 && strstr(image, "bad line"))
      snprintf(values[i], 64, "ptxas: line 3: error\n");
  BEGIN;
  if (strcmp(kind, "cubin") && !strstr(image, ".version")) return INVALID_IMAGE;
  if (strstr(image, "bad line")) return 218;
  loaded[module_count] = 1;
  *out = (void *)(uintptr_t)(0x1000 + module_count++);
  return OK;
}
Result cuModuleUnload(void *module) {
  uintptr_t number = (uintptr_t)module - 0x1000;
  if (number >= MODULES || !loaded[number]) return INVALID_VALUE;
  LOG("unload ctx %#lx mode %d\n", depth ? (unsigned long)stack[depth - 1] : 0, capture_mode);
  BEGIN;
  loaded[number] = 0;
  return OK;
}
Result cuModuleGetFunction(void **out, void *module, const char *name) {
  uintptr_t number = (uintptr_t)module - 0x1000;
  BEGIN;
  if (number >= MODULES || !loaded[number]) return INVALID_VALUE;
  if (!strncmp(name, "missing", 7)) return NOT_FOUND;
  snprintf(names[function_count], sizeof names[0], "%s", name);
  *out = (void *)(uintptr_t)(0x2000 + function_count++);
  return OK;
}
Result cuFuncSetAttribute(void *function, int attribute, int value) {
  LOG("attribute %s %d=%d\n", names[(uintptr_t)function - 0x2000], attribute, value);
  BEGIN;
  return OK;
}
Result cuStreamIsCapturing(void *stream, int *out) {
  BEGIN;
  (void)stream;
  *out = capturing;
  return OK;
}

/* The map is: a mark, data type, rank, swizzle, address, then sizes, strides and box. */
Result cuTensorMapEncodeTiled(void *map, int type, unsigned rank, void *address,
                              const uint64_t *sizes, const uint64_t *strides, const uint32_t *box,
                              const uint32_t *steps, int interleave, int swizzle, int promotion,
                              int fill) {
  BEGIN;
  LOG("map type %d swizzle %d at %#lx :", type, swizzle, (unsigned long)(uintptr_t)address);
  for (unsigned i = 0; i < rank; i++)
    LOG(" %lu/%lu/%u", (unsigned long)sizes[i], i ? (unsigned long)strides[i - 1] : 0, box[i]);
  LOG("\n");
  if ((uintptr_t)map % 64 || (uintptr_t)address % 16 || rank < 1 || rank > 5) return INVALID_VALUE;
  if (interleave || promotion > 3 || fill) return INVALID_VALUE;
  const unsigned line = box[0] * (type == 0 ? 1 : type == 7 ? 4 : 2); /* bytes of u8, f32, 16 bits */
  if (line % 16 || (swizzle && line > 16u << swizzle)) return INVALID_VALUE;
  for (unsigned i = 0; i < rank; i++) {
    if (!sizes[i] || !box[i] || box[i] > 256 || steps[i] != 1) return INVALID_VALUE;
    if (i && (!strides[i - 1] || strides[i - 1] % 16)) return INVALID_VALUE;
  }
  memset(map, 0xA5, 128);
  memcpy(map, &address, sizeof address);
  return OK;
}

/* sum[n, c] = x[n, c] + y[n, c] in f32: three pointers, sizes n and c, strides of n thrice. */
static void run_add(void **p) {
  float *x = *(float **)p[0], *y = *(float **)p[1], *sum = *(float **)p[2];
  int n = *(int *)p[3], c = *(int *)p[4];
  int64_t dx = *(int64_t *)p[5], dy = *(int64_t *)p[6], ds = *(int64_t *)p[7];
  for (int i = 0; i < n; i++)
    for (int j = 0; j < c; j++) sum[i * ds + j] = x[i * dx + j] + y[i * dy + j];
}

Result cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                      unsigned by, unsigned bz, unsigned shared, void *stream, void **parameters,
                      void **extra) {
  const char *name = names[(uintptr_t)function - 0x2000];
  LOG("launch %s grid %u %u %u block %u %u %u shared %u stream %#lx ctx %#lx extra %d :", name, gx,
      gy, gz, bx, by, bz, shared, (unsigned long)(uintptr_t)stream,
      depth ? (unsigned long)stack[depth - 1] : 0, extra != 0);
  for (int i = 0; i < parameter_count; i++) {
    LOG(" ");
    for (int b = 0; b < parameter_sizes[i]; b++) LOG("%02x", ((unsigned char *)parameters[i])[b]);
  }
  LOG("\n");
  BEGIN;
  if (!gx || !gy || !gz) return INVALID_VALUE;
  if (!strcmp(name, "add")) run_add(parameters);
  return OK;
}
