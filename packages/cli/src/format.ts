/** Bytes with a unit a person reads: `512 B`, `2.0 MiB`, `15.6 GiB`. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? String(Math.round(value)) : value.toFixed(value < 100 ? 1 : 0)} ${units[unit] ?? ''}`;
}

/** A time span: `0.42 s`, `12 s`, `3:05`, `1:02:33`. */
export function formatSeconds(seconds: number): string {
  if (!Number.isFinite(seconds)) return '?';
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  if (seconds < 60) return `${seconds.toFixed(0)} s`;
  return formatClock(seconds);
}

/** A time on a clock: `0:05`, `12:40`, `1:02:33`; what a display that counts shows. */
export function formatClock(seconds: number): string {
  const total = Math.round(seconds);
  const [hours, minutes, rest] = [
    Math.floor(total / 3600),
    Math.floor(total / 60) % 60,
    total % 60,
  ];
  const two = (value: number) => String(value).padStart(2, '0');
  return hours > 0 ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** A whole number with thin groups: `12,345`. */
export function formatCount(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

/** A prompt length in tokens the way tables head it: `4096` is `4K`, `1000` stays `1000`. */
export function formatLength(tokens: number): string {
  return tokens >= 1024 && tokens % 1024 === 0 ? `${tokens / 1024}K` : String(tokens);
}

/** Tokens a second with three significant digits: `1,240`, `97.3`, `4.05`. */
export function formatRate(perSecond: number): string {
  if (!Number.isFinite(perSecond)) return '-';
  if (perSecond >= 1000) return formatCount(perSecond);
  return perSecond.toPrecision(3);
}
