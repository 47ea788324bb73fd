import { describe, expect, it } from 'vitest';
import { fillTemplate, listExpressions, parseExpression, wholeExpression } from './template.ts';

describe('the grammar of templates', () => {
  it('lists the expressions of a text, in order', () => {
    expect(listExpressions('{{ title }} on {{stack|default:"a b"}}, {{}}, {{ {a} }}')).toEqual([
      'title',
      'stack|default:"a b"',
      '',
      '{a}',
    ]);
    expect(listExpressions('{ title }, {{ title')).toEqual([]);
  });

  it('returns an expression as a whole only if nothing stands around it', () => {
    expect(wholeExpression('{{ params.a | lower }}')).toBe('params.a | lower');
    for (const text of ['x{{ params.a }}', '{{ params.a }} ', '{{ params.a }}{{ params.b }}', '{{ {a} }}'])
      expect(wholeExpression(text), text).toBeUndefined();
  });

  it.each([
    ['text', { name: 'text', filters: [] }],
    ['params.my_tag2', { name: 'params.my_tag2', filters: [] }],
    [
      `params.a|default:"a | lower"| date : '%Y'  |  upper`,
      {
        name: 'params.a',
        filters: [
          { name: 'default', argument: 'a | lower' },
          { name: 'date', argument: '%Y' },
          { name: 'upper', argument: undefined },
        ],
      },
    ],
    ['a | default: -1.5', { name: 'a', filters: [{ name: 'default', argument: -1.5 }] }],
    ['a | default: ""', { name: 'a', filters: [{ name: 'default', argument: '' }] }],
    ['a\n| shout', { name: 'a', filters: [{ name: 'shout', argument: undefined }] }],
  ])('parses a name and its filters: %j', (source, expected) => {
    expect(parseExpression(source)).toEqual(expected);
  });

  it.each([
    '',
    'A',
    '9',
    '_a',
    'a b',
    'process.env.HOME',
    'a || lower',
    'a |',
    'a | Lower',
    'a | default: b',
    'a | default: "b',
    'a | default: "{b}"',
    'a | default: .5',
    'a()',
  ])('does not parse %j', source => {
    expect(parseExpression(source)).toBeUndefined();
  });

  it('fills each placeholder once: what is filled in is not read as a template', () => {
    expect(fillTemplate('{{ a }}-{{ b }}', source => `{{ ${source}${source} }}`)).toBe('{{ aa }}-{{ bb }}');
    expect(fillTemplate('{{  a }}', (_, placeholder) => placeholder)).toBe('{{  a }}');
  });
});
