import { describe, expect, test } from 'vitest';
import { JinjaTemplate } from '../../src/tokenizer/jinja.js';
import { strftime } from '../../src/tokenizer/strftime.js';

const messages = [
  { role: 'user', content: 'Hello é' },
  { role: 'assistant', content: 'Hi <x>' },
];
const now = new Date(2026, 10, 27, 9, 5, 7);

function render(source: string, variables: Record<string, unknown> = { messages }): string {
  return new JinjaTemplate(source).render(variables, now);
}

/**
 * What jinja2 3.1.6 prints in the environment of transformers 5.17.0 (sandboxed, trim_blocks, lstrip_blocks, its
 * tojson, loop controls and generation blocks).
 */
const printed: [what: string, source: string, text: string][] = [
  [
    'what is printed',
    "{{ none }}|{{ nothing }}|{{ true }}|{{ 2.0 }}|{{ [1, 'it\\'s', none, 1.5, {'k': (1, 2)}] }}",
    "None||True|2.0|[1, \"it's\", None, 1.5, {'k': (1, 2)}]",
  ],
  [
    'concatenation',
    "{{ 'a' ~ none ~ 1 ~ true ~ nothing }}|{{ 'a' + 'b' }}|{{ 1 + 2 }}|{{ 1 + 2.0 }}|{{ [1] + [2] }}",
    'aNone1True|ab|3|3.0|[1, 2]',
  ],
  [
    'equality',
    "{{ none == nothing }} {{ '' == 0 }} {{ '1' == 1 }} {{ 1 == 1.0 }} {{ true == 1 }} {{ [1] == [1] }} {{ {'a': 1} == {'a': 1.0} }} {{ [1] != [2] }}",
    'False False False True True True True True',
  ],
  [
    'strip',
    "{{ '\\n\\n  a \\n'.strip('\\n') }}|{{ 'xxayx'.lstrip('x') }}|{{ 'xxayx'.rstrip('yx') }}|{{ ' q\\u00a0' | trim }}|{{ none | trim }}|{{ nothing | trim }}|{{ 'xax' | trim('x') }}|{{ '\\ufeffa\\x1c' | trim | length }}",
    '  a |ayx|xxa|q|None||a|2',
  ],
  [
    'loops over nothing, text and objects',
    "{% for c in nothing %}x{% else %}none{% endfor %}|{% for c in 'hé🙂' %}{{ c }}.{% endfor %}|{% for k in {'a': 1} %}{{ k }}{% endfor %}|{% for k, v in {'a': 1} | items %}{{ k }}={{ v }}{% endfor %}",
    'none|h.é.🙂.|a|a=1',
  ],
  [
    'variables of a round',
    '{% for m in messages %}{% if loop.first %}{% set seen = 1 %}{% endif %}{{ seen is defined }} {% endfor %}|{% set n = namespace(i=0) %}{% for m in messages %}{% set n.i = n.i + 1 %}{% endfor %}{{ n.i }}|{% set x = 1 %}{% for m in messages %}{{ x }}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}',
    'True False |2|12121',
  ],
  [
    'select and reject',
    "{{ [1, 2, 3] | select('odd') | list }} {{ ['a', 'b'] | reject('equalto', 'a') | list }} {{ ['a', 'b'] | reject('in', ['b']) | join(',') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | rejectattr('role') | list | length }} {{ 'ab' | selectattr('x', 'equalto', 1) | list | length }} {{ [0, 1] | select | list }}",
    "[1, 3] ['b'] a 1 0 0 [1]",
  ],
  [
    'JSON',
    "{{ messages | tojson }}\n{{ {'b': [], 'a': {'x': none}} | tojson(indent=2) }}{{ 'é<>&\\'' | tojson }}{{ 'é' | tojson(ensure_ascii=True) }}{{ {'b': 1, 'a': 2} | tojson(separators=(',', ':'), sort_keys=True) }}",
    '[{"role": "user", "content": "Hello é"}, {"role": "assistant", "content": "Hi <x>"}]\n{\n  "b": [],\n  "a": {\n    "x": null\n  }\n}"é<>&\'""\\u00e9"{"a":2,"b":1}',
  ],
  [
    'generation blocks',
    "{% for m in messages %}\n  {% if m.role == 'assistant' %}\n    {% generation %}\n{{ m.content }}\n    {% endgeneration %}\n  {% else %}\n{{ m.role }}\n  {% endif %}\n{% endfor %}",
    'user\nHi <x>\n',
  ],
  [
    'white space around blocks',
    "  {%- if true %}  a  {%- endif %}\n\n  {% if true %}\n  b\n  {% endif -%}\n  c\n{# note #}\nd\n{#- n -#}\n  e {{- 'f' -}}  g\n",
    '  a\n  b\nc\ndefg',
  ],
  [
    'length',
    "{{ '🙂é' | length }} {{ messages | length }} {{ messages[0] | count }} {{ nothing | length }}",
    '2 2 2 0',
  ],
  ['capitalize', "{{ 'hello World' | capitalize }} {{ 'ÀB'.capitalize() }}", 'Hello world Àb'],
  [
    'break and continue',
    '{% for i in range(5) %}{% if i == 3 %}{% break %}{% endif %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}',
    '02',
  ],
  [
    'macros',
    "{% macro f(x, y=none) %}[{{ x }}{{ y }}]{% endmacro %}{{ f(1) }}{{ f('a', y='b') }}",
    '[1None][ab]',
  ],
];

describe('a Jinja template', () => {
  test.each(printed)('%s', (_, source, text) => {
    expect(render(source)).toBe(text);
    // Rendering leaves nothing behind.
    expect(render(source)).toBe(text);
  });

  test('numbers keep their kind', () => {
    const source = '{% for n in numbers %}{{ n }} {% endfor %}';
    const numbers = [1, 0.1, 1e16 + 0.5, 1.5e-7, 2 ** 70, -0.25];
    expect(render(source, { numbers })).toBe(
      '1 0.1 10000000000000000 1.5e-07 1180591620717411303424 -0.25 ',
    );
  });

  test.each([
    ["{{ 'a' + none }}", 'cannot add nothing (null) to a text'],
    ["{{ 'a' + 1 }}", 'cannot add a number to a text'],
    ["{{ 'a' + messages }}", 'cannot add a list to a text'],
    ["{{ 'a' + messages[0] }}", 'cannot add an object to a text'],
    ['{{ none.strip() }}', 'nothing (null) has no strip()'],
    ["{{ 'a'.strip(1) }}", 'strip takes a text of characters, not a number'],
    ['{% for x in 5 %}{% endfor %}', 'a number cannot be gone through'],
    ["{{ [1] | select('sideways') }}", 'there is no test called "sideways"'],
    ["{{ [1] | select('in', 5) }}", 'nothing can be in a number'],
    ["{{ raise_exception('no ' + 'way') }}", 'no way'],
    ['{{ range(1000000) }}', 'range() of 1000000 is too long'],
  ])('%s fails', (source, message) => {
    expect(() => render(source)).toThrow(message);
  });

  test('a macro that calls itself for ever ends with an error', () => {
    expect(() => render('{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}')).toThrow();
  });

  test.each([
    ['{% for part in content %}{% endfor %}', true],
    ["{% for part in message['content'] %}{% endfor %}", true],
    [
      "{% if x %}{% for p in message.content | selectattr('type') if p %}{% endfor %}{% endif %}",
      true,
    ],
    ['{% for message in messages %}{{ message.content }}{% endfor %}', false],
  ])('%s reads parts: %s', (source, expected) => {
    expect(new JinjaTemplate(source).readsParts).toBe(expected);
  });
});

// Python's datetime(...).strftime(...) in the C locale.
test.each([
  [
    new Date(2026, 10, 27, 9, 5, 7),
    'Fri Friday 5 5 27 27 27 331 Nov November Nov 11 11 26 2026 09 09 9 AM 05 07 2026-11-27 09:05:07 11/27/26 09:05 %',
  ],
  [
    new Date(2024, 11, 31, 0, 0, 0),
    'Tue Tuesday 2 2 31 31 31 366 Dec December Dec 12 12 24 2024 00 12 12 AM 00 00 2024-12-31 00:00:00 12/31/24 00:00 %',
  ],
  [
    new Date(2001, 2, 4, 13, 59, 59),
    'Sun Sunday 0 7 04 4  4 063 Mar March Mar 03 3 01 2001 13 01 1 PM 59 59 2001-03-04 13:59:59 03/04/01 13:59 %',
  ],
])('strftime of %s', (date, text) => {
  const format = '%a %A %w %u %d %-d %e %j %b %B %h %m %-m %y %Y %H %I %-I %p %M %S %F %T %D %R %%';
  expect(strftime(date, format)).toBe(text);
  expect(strftime(date, '%Z%z|%f')).toBe('|000000');
  expect(() => strftime(date, '%Q')).toThrow('strftime_now does not know %Q');
});
