// Numbers for people, as `ctl` writes them: binary sizes, durations, times in UTC, so that all sites mean the same.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

function scaled(value) {
  let unit = 0;
  while (value >= 1023.95 && unit + 1 < UNITS.length) {
    value /= 1024;
    unit++;
  }
  return [value, unit];
}

export function bytes(count) {
  const [value, unit] = scaled(count);
  return unit === 0 ? `${count} B` : `${value.toFixed(1)} ${UNITS[unit]}`;
}

/// Both in the unit of the larger.
export function partOf(done, total) {
  const [value, unit] = scaled(total);
  return unit === 0 ? `${done}/${total} B` : `${(done / 1024 ** unit).toFixed(1)}/${value.toFixed(1)} ${UNITS[unit]}`;
}

export function speed(perSecond) {
  const [value, unit] = scaled(Math.max(perSecond, 0));
  return `${value.toFixed(1)} ${UNITS[unit]}/s`;
}

export function duration(seconds) {
  if (!Number.isFinite(seconds) || seconds < 0) return "-";
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const two = (value) => String(value).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${two(whole % 60)}s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)}h ${two(Math.floor((whole % 3600) / 60))}m`;
  return `${Math.floor(whole / 86400)}d ${Math.floor((whole % 86400) / 3600)}h`;
}

/// No more exact than an estimate can be.
export function about(seconds) {
  if (seconds < 90) return `${Math.ceil(seconds / 10) * 10} s`;
  return seconds < 3600 ? `${Math.round(seconds / 60)} min` : duration(seconds);
}

export const seconds = (from, to) => Math.max((Date.parse(to) - Date.parse(from)) / 1000, 0);
export const time = (at) => (at ? `${at.slice(0, 10)} ${at.slice(11, 19)}` : "");
export const clock = (at) => (at ? at.slice(11, 19) : "");
export const percent = (value) => `${Math.floor(value)} %`;
