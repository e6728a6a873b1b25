/* One gradient rule made wrong on purpose, for programs that must notice.
 *
 * A program that compiles grad_wrong.c and is linked with -Wl,--wrap=hfb_gradient_rule_of gets its rules through it:
 * the real rule of every op but HFB_TEST_WRONG_OP, whose gradients are HFB_TEST_WRONG_FACTOR times what they should be.
 * The library itself knows nothing of it. */
#ifndef HFB_TESTS_SUPPORT_GRAD_WRONG_H
#define HFB_TESTS_SUPPORT_GRAD_WRONG_H

#ifndef HFB_TEST_WRONG_OP
#define HFB_TEST_WRONG_OP HFB_OP_GELU
#endif
#ifndef HFB_TEST_WRONG_FACTOR
#define HFB_TEST_WRONG_FACTOR 1.01
#endif

#endif
