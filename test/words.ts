import type { Prose } from './prose.ts';

/** Words that readers have to decode, and what to write instead. CONTRIBUTING.md explains the rules. */
const WORDS: readonly (readonly [pattern: RegExp, instead: string])[] = [
  [/\b(?:re)?told\b/i, 'logged, reported or sent'],
  [/\bbesides?\b/i, 'next to, in addition to'],
  [/\banew\b/i, 'again'],
  [/(?<![-])\bbegun\b/i, 'started'],
  [/\b(?:go|goes|going|gone|went) on\b(?! (?:to|with|the|a|an|this|that|PATH)\b)/i, 'continues'],
  [/\b(?:come|comes|came|coming|brought) to (?:its|their|an|the) ends?\b/i, 'finishes'],
  [/\bto be had\b|\b(?:can't|can’t|cannot|can) be had\b/i, 'is not available'],
  [/\bfor a trial\b/i, 'as a test'],
  [/\bways? back\b/i, 'rollback'],
  [/\b(?:take|takes|taken|took|taking) up\b/i, 'resumed'],
  [/\bleft alone\b/i, 'circuit open'],
  [/\bjudge[sd]?\b(?!-)|\bjudging\b|\bjudge?ments?\b/i, 'check, decide'],
  [/\bdoors?\b(?![.:`_-])/i, 'endpoint'],
  [/\blies\b|\blay\b/i, 'is stored'],
  [/\bstars\b/i, 'redacted'],
  [/\bvouch(?:es|ed|ing)?\b/i, 'authenticates'],
  [/\b(?:some|no)body\b|\bsomeone\b/i, 'the actor: agent, action, host, engine, user, caller'],
  [/\bsurely\b|\bshelf\b|\bshelves\b/i, 'the standard term (retry, backup group)'],
  [/\bamiss\b/i, 'wrong'],
  [/(?<!\bthere )\b(?:is|are|was|were) no (?!longer\b|more\b|less\b|such\b|one\b)/i, 'is not a …'],
  [
    /(?:\b(?:[Uu]ndefined|[Nn]ull|[Ee]mpty|[Aa]bsent|[Oo]nly|[Aa]lso|[Ee]xcept|and|but|not|true|false)|,|;|^) where\b|\b[Ww]here (?:there (?:is|are|was|were)|none|nothing|no|not)\b/,
    'if or when',
  ],
];

/** A doc comment starts with a verb ("Returns", "Throws") or with a noun that names the thing. */
const DOC_OPENING = /^\s*(?:What|Whether|Who|Whom|Whose|Of|As|Where|How|Why|When)\b/;

/** A comment inside of code does not start with the subject of a free relative clause either. */
const NOTE_OPENING = /^\s*(?:What|Whether|Who|Whom|Where)\b/;

/** One line for each word of the list: file, line, the word and its replacement. */
export function badWords(file: string, prose: readonly Prose[]): string[] {
  return prose.flatMap(({ line, text, isDoc, isNote }) => {
    const found: { offset: number; word: string; instead: string }[] = [];
    for (const [pattern, instead] of WORDS) {
      const all = new RegExp(pattern.source, pattern.flags.includes('i') ? 'gi' : 'g');
      for (const match of text.matchAll(all)) found.push({ offset: match.index, word: match[0].trim(), instead });
    }
    const opening = (isDoc ? DOC_OPENING : isNote ? NOTE_OPENING : undefined)?.exec(text);
    if (opening) found.push({ offset: 0, word: opening[0].trim(), instead: 'start with a verb or a noun' });
    return found.map(({ offset, word, instead }) => {
      const at = line + text.slice(0, offset).split('\n').length - 1;
      return `${file}:${at}: "${word}": write ${instead}`;
    });
  });
}
