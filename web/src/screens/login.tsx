import { useEffect, useState } from "preact/hooks";
import { logIn, type Problem } from "../lib/api";
import { Failure, Field } from "../parts";

/** The one-time code in the address, removed from it at once. */
function takeCode(): string | null {
  const code = /^#code=(.+)$/.exec(location.hash)?.[1];
  if (code === undefined) return null;
  history.replaceState(null, "", location.pathname);
  return code;
}

export function Login({ expired, done }: { expired: boolean; done: () => void }) {
  const [problem, set] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  const enter = (login: { code: string } | { token: string }) => {
    setBusy(true);
    logIn(login).then(done, (error: Problem) => {
      set(error);
      setBusy(false);
    });
  };
  useEffect(() => {
    const code = takeCode();
    if (code !== null) enter({ code });
  }, []);
  return (
    <main class="login">
      <h1>zkbridge</h1>
      {expired && <p role="status">The session has ended. Log in again to go on where you were.</p>}
      <form onSubmit={(event) => {
        event.preventDefault();
        const token = new FormData(event.currentTarget as HTMLFormElement).get("token");
        enter({ token: String(token) });
      }}>
        <Field label="Token"><input name="token" type="password" autocomplete="current-password" required autofocus /></Field>
        <button type="submit" disabled={busy}>Log in</button>
      </form>
      <p>Or run <code>zkbridge ui</code> on the machine of the bridge and open the link that it prints.</p>
      {problem && <Failure problem={problem} />}
    </main>
  );
}
