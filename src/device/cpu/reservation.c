#include "device/cpu/reservation.h"

#include <stddef.h>

static int class_of(int64_t bytes) { return hfb_size_class_of(bytes > 0 ? (size_t)bytes : 1); }

int64_t hfb_block_resident_bytes(int64_t bytes) {
  enum { LARGE_BYTES = 4 << 20 };
  return bytes >= LARGE_BYTES ? bytes : (int64_t)hfb_size_class_bytes(class_of(bytes));
}

void hfb_reservation_take(hfb_reservation *reservation, int64_t bytes) {
  const int size_class = class_of(bytes);
  if (++reservation->classes[size_class].live > reservation->classes[size_class].most) {
    reservation->classes[size_class].most = reservation->classes[size_class].live;
  }
  if (bytes > reservation->classes[size_class].largest_bytes) reservation->classes[size_class].largest_bytes = bytes;
}

void hfb_reservation_give(hfb_reservation *reservation, int64_t bytes) {
  reservation->classes[class_of(bytes)].live--;
}

int64_t hfb_reservation_bytes(const hfb_reservation *reservation) {
  int64_t bytes = 0;
  for (int i = 0; i < HFB_SIZE_CLASS_COUNT; i++) {
    if (reservation->classes[i].most == 0) continue;
    bytes += reservation->classes[i].most * hfb_block_resident_bytes(reservation->classes[i].largest_bytes);
  }
  return bytes;
}
