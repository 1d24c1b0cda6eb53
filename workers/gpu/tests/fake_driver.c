// A driver without a card, for tests of what happens where a card is missing, old or lost: its memory is the
// machine's, copies are copies, kernels are compiled and loaded by name and never run.
//
//   cc -shared -fPIC -w -o libcuda.so fake_driver.c      (never libcuda.so.1: NVRTC would load it and end there)
//
// FAKE_DRIVER (12040 for CUDA 12.4), FAKE_CARDS, FAKE_CAPABILITY (major), FAKE_LOST (launches fail), FAKE_LOCKED (no
// page-locked memory for whoever asks the driver himself), FAKE_COPY (copies
// from there fail).
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
typedef int CUresult; typedef uint64_t CUdeviceptr;
static int verbose(void) { static int v = -1; if (v < 0) v = getenv("FAKE_LOG") != NULL; return v; }
#define LOG(...) do { if (verbose()) { fprintf(stderr, "fake driver: " __VA_ARGS__); fputc('\n', stderr); } } while (0)
static int number(const char *name, int otherwise) { const char *s = getenv(name); return s ? atoi(s) : otherwise; }
CUresult cuInit(unsigned f) { return 0; }
CUresult cuDriverGetVersion(int *v) { *v = number("FAKE_DRIVER", 13000); return 0; }
CUresult cuDeviceGetCount(int *n) { *n = number("FAKE_CARDS", 1); return 0; }
CUresult cuDeviceGet(int *d, int o) { *d = o; return 0; }
CUresult cuDeviceGetName(char *s, int n, int d) { snprintf(s, n, "Fake H200"); return 0; }
CUresult cuDeviceTotalMem_v2(size_t *b, int d) { *b = (size_t)139 << 30; return 0; }
CUresult cuDeviceGetAttribute(int *v, int a, int d) {
  switch (a) {
    case 1: *v = 1024; break;             // MAX_THREADS_PER_BLOCK
    case 2: *v = 1024; break; case 3: *v = 1024; break; case 4: *v = 64; break; // block dims
    case 5: *v = 2147483647; break; case 6: *v = 65535; break; case 7: *v = 65535; break; // grid dims
    case 10: *v = 32; break;              // WARP_SIZE
    case 16: *v = 132; break;             // MULTIPROCESSOR_COUNT
    case 75: *v = number("FAKE_CAPABILITY", 9); break; case 76: *v = 0; break; // compute capability
    case 97: *v = 232448; break;          // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
    default: *v = 1; LOG("attribute %d", a);
  }
  return 0;
}
CUresult cuDevicePrimaryCtxRetain(void **c, int d) { *c = (void *)0x1000; return 0; }
CUresult cuDevicePrimaryCtxRelease_v2(int d) { return 0; }
CUresult cuCtxSetCurrent(void *c) { return 0; }
CUresult cuCtxGetCurrent(void **c) { *c = (void *)0x1000; return 0; }
CUresult cuCtxSynchronize(void) { return 0; }
CUresult cuDeviceCanAccessPeer(int *v, int a, int b) { *v = 0; return 0; }
static uintptr_t next = 0x2000;
CUresult cuStreamCreate(void **s, unsigned f) { *s = (void *)(next += 16); LOG("stream %p", *s); return 0; }
CUresult cuStreamDestroy_v2(void *s) { return 0; }
CUresult cuStreamSynchronize(void *s) { return 0; }
CUresult cuStreamQuery(void *s) { return 0; }
CUresult cuStreamWaitEvent(void *s, void *e, unsigned f) { return 0; }
CUresult cuEventCreate(void **e, unsigned f) { *e = (void *)(next += 16); return 0; }
CUresult cuEventRecord(void *e, void *s) { return 0; }
CUresult cuEventSynchronize(void *e) { return 0; }
CUresult cuEventQuery(void *e) { return 0; }
CUresult cuEventDestroy_v2(void *e) { return 0; }
static CUresult al(CUdeviceptr *p, size_t n) { void *q = NULL; if (posix_memalign(&q, 512, n ? n : 512)) return 2; *p = (CUdeviceptr)q; LOG("alloc %zu -> %p", n, q); return 0; }
CUresult cuMemAlloc_v2(CUdeviceptr *p, size_t n) { return al(p, n); }
CUresult cuMemAllocAsync(CUdeviceptr *p, size_t n, void *s) { return al(p, n); }
CUresult cuMemFree_v2(CUdeviceptr p) { free((void *)p); return 0; }
CUresult cuMemFreeAsync(CUdeviceptr p, void *s) { free((void *)p); return 0; }
CUresult cuMemAllocHost_v2(void **p, size_t n) { LOG("pinned %zu", n); return posix_memalign(p, 4096, n ? n : 4096) ? 2 : 0; }
static struct { char *begin, *end; } locked[64]; static int count;
CUresult cuMemHostAlloc(void **p, size_t n, unsigned f) {
  if (getenv("FAKE_LOCKED") || count == 64 || cuMemAllocHost_v2(p, n)) return 2;
  locked[count].begin = *p; locked[count++].end = (char *)*p + n; return 0; }
static int is_locked(const char *p) { for (int i = 0; i < count; i++) if (p >= locked[i].begin && p < locked[i].end) return 1; return 0; }
CUresult cuMemFreeHost(void *p) { free(p); return 0; }
CUresult cuMemGetInfo_v2(size_t *f, size_t *t) { *t = *f = (size_t)139 << 30; return 0; }
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr d, const void *h, size_t n, void *s) { if (getenv("FAKE_COPY") && is_locked(h)) return 719; memcpy((void *)d, h, n); LOG("htod %zu stream %p", n, s); return 0; }
CUresult cuMemcpyDtoHAsync_v2(void *h, CUdeviceptr d, size_t n, void *s) { memcpy(h, (void *)d, n); LOG("dtoh %zu stream %p", n, s); return 0; }
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr d, CUdeviceptr f, size_t n, void *s) { memcpy((void *)d, (void *)f, n); return 0; }
typedef struct { size_t sx, sy; int st; const void *sh; CUdeviceptr sd; void *sa; size_t sp; size_t dx, dy; int dt; void *dh; CUdeviceptr dd; void *da; size_t dp; size_t w, h; } M2;
CUresult cuMemcpy2DAsync_v2(const M2 *m, void *s) {
  const char *f = m->st == 1 ? m->sh : (const char *)m->sd; char *t = m->dt == 1 ? m->dh : (char *)m->dd;
  LOG("2d %zux%zu", m->w, m->h);
  for (size_t i = 0; i < m->h; i++) memcpy(t + (m->dy + i) * m->dp + m->dx, f + (m->sy + i) * m->sp + m->sx, m->w);
  return 0;
}
CUresult cuModuleLoadData(void **m, const void *ptx) { *m = strdup((const char *)ptx); return 0; }
CUresult cuModuleUnload(void *m) { return 0; }
CUresult cuModuleGetFunction(void **f, void *m, const char *n) {
  if (!strstr((char *)m, n)) return 500; *f = strdup(n); return 0; }
CUresult cuFuncSetAttribute(void *f, int a, int v) { return 0; }
CUresult cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned sh, void *s, void **a, void **x) {
  LOG("launch %s grid %u,%u,%u block %u,%u,%u shared %u stream %p", (char *)f, gx, gy, gz, bx, by, bz, sh, s);
  return getenv("FAKE_LOST") ? 719 : 0; }
CUresult cuTensorMapEncodeTiled() { return 0; }
CUresult cuTensorMapEncodeIm2col() { return 0; }
CUresult cuGetErrorName(int e, const char **s) { *s = "FAKE_ERROR"; return 0; }
CUresult cuGetErrorString(int e, const char **s) { *s = "fake error"; return 0; }
