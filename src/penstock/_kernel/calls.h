/* `select` as CPython calls it fastest: its keywords without a dictionary. Included by selecting.py alone. */
#pragma once
#include <Python.h>

typedef PyObject *(*pk_select_body)(PyObject *cases, PyObject *timeout, int has_default);
static pk_select_body pk_select_run;
static PyObject *pk_timeout_name, *pk_default_name;

static int pk_is_name(PyObject *given, PyObject *name) {
    return given == name || PyUnicode_Compare(given, name) == 0;
}

static PyObject *pk_select_call(PyObject *module, PyObject *const *args, Py_ssize_t positional, PyObject *names) {
    PyObject *timeout = Py_None;
    int has_default = 0;
    (void)module;
    for (Py_ssize_t at = 0; names != NULL && at < PyTuple_GET_SIZE(names); at++) {
        PyObject *name = PyTuple_GET_ITEM(names, at), *value = args[positional + at];
        if (pk_is_name(name, pk_default_name)) {
            if ((has_default = PyObject_IsTrue(value)) < 0) return NULL;
        } else if (pk_is_name(name, pk_timeout_name)) {
            timeout = value;
        } else {
            return PyErr_Format(PyExc_TypeError, "select() got an unexpected keyword argument %R", name);
        }
    }
    PyObject *cases = PyTuple_New(positional);
    if (cases == NULL) return NULL;
    for (Py_ssize_t at = 0; at < positional; at++) PyTuple_SET_ITEM(cases, at, Py_NewRef(args[at]));
    PyObject *outcome = pk_select_run(cases, timeout, has_default);
    Py_DECREF(cases);
    return outcome;
}

static PyMethodDef pk_select_definition = {
    "select", (PyCFunction)(void (*)(void))pk_select_call, METH_FASTCALL | METH_KEYWORDS, NULL};

/* A function that calls `body`, with the name and the documentation of `like`, which lives as long as the module. */
static PyObject *pk_select_function(PyObject *like, pk_select_body body) {
    PyObject *documentation = PyObject_GetAttrString(like, "__doc__");
    PyObject *module = PyObject_GetAttrString(like, "__module__");
    PyObject *text = documentation == NULL ? NULL
        : PyUnicode_FromFormat("select(*cases, timeout=None, default=False)\n--\n\n%U", documentation);
    PyObject *function = NULL;
    pk_select_run = body;
    pk_timeout_name = PyUnicode_InternFromString("timeout");
    pk_default_name = PyUnicode_InternFromString("default");
    if (text != NULL && module != NULL && pk_timeout_name != NULL && pk_default_name != NULL) {
        pk_select_definition.ml_doc = PyUnicode_AsUTF8(text);
        if (pk_select_definition.ml_doc != NULL) function = PyCFunction_NewEx(&pk_select_definition, NULL, module);
    }
    if (function == NULL) Py_XDECREF(text); /* Otherwise it is the documentation for good. */
    Py_XDECREF(documentation);
    Py_XDECREF(module);
    return function;
}
