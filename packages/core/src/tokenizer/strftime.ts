const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];
const MONTHS = [
  ...['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September'],
  ...['October', 'November', 'December'],
];

/**
 * Python's `datetime.strftime` in the C locale, in local time. `%-d` and the like leave the leading zero out, as
 * glibc does.
 * @throws Error for a directive that is not known
 */
export function strftime(date: Date, format: string): string {
  return format.replace(/%(-?)(.)/gsu, (whole, minus: string, directive: string) => {
    const value = field(date, directive);
    if (value === undefined) throw new Error(`strftime_now does not know ${whole}`);
    return minus === '' ? value : value.replace(/^[0 ]+(?=.)/, '');
  });
}

function field(date: Date, directive: string): string | undefined {
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = DAYS[date.getDay()] as string;
  const month = MONTHS[date.getMonth()] as string;
  const hours = date.getHours();
  switch (directive) {
    case 'a':
      return day.slice(0, 3);
    case 'A':
      return day;
    case 'w':
      return String(date.getDay());
    case 'u':
      return String(date.getDay() === 0 ? 7 : date.getDay());
    case 'd':
      return two(date.getDate());
    case 'e':
      return String(date.getDate()).padStart(2, ' ');
    case 'j':
      return String(dayOfYear(date)).padStart(3, '0');
    case 'b':
    case 'h':
      return month.slice(0, 3);
    case 'B':
      return month;
    case 'm':
      return two(date.getMonth() + 1);
    case 'y':
      return two(date.getFullYear() % 100);
    case 'Y':
      return String(date.getFullYear());
    case 'H':
      return two(hours);
    case 'I':
      return two(hours % 12 === 0 ? 12 : hours % 12);
    case 'p':
      return hours < 12 ? 'AM' : 'PM';
    case 'M':
      return two(date.getMinutes());
    case 'S':
      return two(date.getSeconds());
    case 'f':
      return String(date.getMilliseconds() * 1000).padStart(6, '0');
    case 'F':
      return strftime(date, '%Y-%m-%d');
    case 'T':
      return strftime(date, '%H:%M:%S');
    case 'D':
      return strftime(date, '%m/%d/%y');
    case 'R':
      return strftime(date, '%H:%M');
    case 'z':
    case 'Z':
      // datetime.now() knows no time zone, so Python prints nothing.
      return '';
    case '%':
      return '%';
    default:
      return undefined;
  }
}

function dayOfYear(date: Date): number {
  const [year, month, day] = [date.getFullYear(), date.getMonth(), date.getDate()];
  return Math.round((Date.UTC(year, month, day) - Date.UTC(year, 0, 1)) / 86_400_000) + 1;
}
