#include "device/device_impl.h"

void hfb_device_destroy(hfb_device *device) {
  if (device) device->ops->destroy(device);
}

const char *hfb_device_name(const hfb_device *device) { return device->ops->name; }

hfb_pool *hfb_device_pool(const hfb_device *device) { return device->pool; }

hfb_status hfb_device_alloc(hfb_device *device, size_t bytes, void **out_pointer) {
  *out_pointer = NULL;
  return device->ops->alloc(device, bytes > 0 ? bytes : 1, out_pointer);
}

void hfb_device_free(hfb_device *device, void *pointer, size_t bytes) {
  if (pointer) device->ops->free(device, pointer, bytes > 0 ? bytes : 1);
}

/* Reading the counts takes the lock of the device, which is no visible change: hence the cast. */
hfb_memory_stats hfb_device_memory(const hfb_device *device) { return device->ops->memory((hfb_device *)device); }

void hfb_device_reset_peak(hfb_device *device) { device->ops->reset_peak(device); }

void hfb_device_empty_cache(hfb_device *device) { device->ops->empty_cache(device); }
