/**
 * The convention of LibTorch bindings: unset, empty, `0` and `false` mean off, anything else is on.
 * @param {string | undefined} value
 */
export function isOn(value) {
  return value !== undefined && !['', '0', 'false'].includes(value.trim().toLowerCase());
}

/**
 * The value of a variable that names something (a directory, a variant), or undefined where it is off.
 * @param {string | undefined} value
 */
export function settingOf(value) {
  return isOn(value) ? value?.trim() : undefined;
}
