/* What this program was built from, for reports and --version. */
#ifndef HFB_BASE_BUILD_H
#define HFB_BASE_BUILD_H

const char *hfb_build_version(void);  /* "0.1.0" */
const char *hfb_build_commit(void);   /* "1a2b3c4d5e6f", "-dirty" behind it for changed sources; "unknown" */
const char *hfb_build_compiler(void); /* "gcc 12.2.0" */
const char *hfb_build_type(void);     /* "Release", "Release+address,undefined" */

#endif
