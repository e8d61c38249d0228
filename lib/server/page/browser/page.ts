// The page: a list of runs, a run, and a form to start one, by what follows `#` in its address.
import { hasToken, Refused, rememberToken } from './api.js';
import { element, fill } from './elements.js';
import { showRun } from './run-page.js';
import { showRuns } from './runs-page.js';
import { showStart } from './start-page.js';

const main = document.querySelector('main')!;

/** What the page shows is followed until it shows something else. */
let leave = new AbortController();

async function show(): Promise<void> {
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  try {
    const path = decodeURIComponent(location.hash.replace(/^#\/?/, ''));
    if (path === 'start') await showStart(main);
    else if (path.startsWith('runs/')) await showRun(main, path.slice('runs/'.length), signal);
    else await showRuns(main, signal);
  } catch (error) {
    if (!signal.aborted) showFailure(error);
  }
}

function showFailure(error: unknown): void {
  if (error instanceof Refused && error.status === 401) {
    askForToken();
    return;
  }
  const reason = error instanceof Error ? error.message : String(error);
  fill(
    main,
    element('h1', {}, 'That did not work'),
    element('p', { role: 'alert', class: 'deck' }, reason),
    backLink(),
  );
}

const backLink = (): Element => element('p', {}, element('a', { href: '#/' }, 'All runs'));

/** A form for the token, in place of all else. It takes no second token while the service looks at the first. */
function askForToken(): void {
  const input = element('input', {
    type: 'password',
    name: 'token',
    autocomplete: 'current-password',
    required: true,
    // What a header can carry.
    pattern: ' *[!-~]+ *',
    title: 'letters, digits and signs without blanks or accents',
  });
  const fields = element(
    'fieldset',
    {},
    element('label', {}, 'Token of the service', input),
    element('button', {}, 'Enter'),
  );
  const submit = (event: Event): void => {
    event.preventDefault();
    rememberToken(input.value.trim());
    fields.disabled = true;
    void show();
  };
  const refused =
    hasToken() && element('p', { role: 'alert', class: 'problem' }, 'That is not the token of this service.');
  fill(main, element('h1', {}, 'Who is there?'), element('form', { submit }, fields), refused);
  input.focus();
}

addEventListener('hashchange', () => void show());
void show();
