/* bfloat16 and IEEE half: conversion with round to nearest even. */
#ifndef HFB_BASE_HALF_H
#define HFB_BASE_HALF_H

#include <stdint.h>

float hfb_bf16_to_f32(uint16_t bits);
uint16_t hfb_f32_to_bf16(float value);
/* `count` of them, as fast as memory. */
void hfb_bf16_row_to_f32(const uint16_t *from, int64_t count, float *to);
float hfb_f16_to_f32(uint16_t bits);
uint16_t hfb_f32_to_f16(float value);

#endif
