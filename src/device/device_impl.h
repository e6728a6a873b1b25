/* What a kind of device provides. device.c checks arguments and calls through this table. */
#ifndef HFB_DEVICE_DEVICE_IMPL_H
#define HFB_DEVICE_DEVICE_IMPL_H

#include "device/device.h"

typedef struct hfb_device_ops {
  const char *name;
  hfb_status (*alloc)(hfb_device *device, size_t bytes, void **out_pointer) HFB_MUST_USE;
  void (*free)(hfb_device *device, void *pointer, size_t bytes);
  hfb_memory_stats (*memory)(hfb_device *device);
  void (*reset_peak)(hfb_device *device);
  void (*empty_cache)(hfb_device *device);
  void (*destroy)(hfb_device *device);
} hfb_device_ops;

/* The first member of every implementation. */
struct hfb_device {
  const hfb_device_ops *ops;
  hfb_pool *pool; /* owned by the implementation */
};

#endif
