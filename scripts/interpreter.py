"""Print which Python runs this: 3.11.7, or 3.14.0t for a free-threaded build."""

import platform
import sysconfig

print(platform.python_version() + ("t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""))
