package web

import (
	"net/http"
)

// signInForm asks who comes in.
func (v *visit) signInForm() *form {
	return v.form(
		&field{Name: "email", Type: "email", Auto: "username"},
		&field{Name: "pin", Type: "password", Auto: "current-password"},
	)
}

func signInPage(v *visit) error {
	who, err := v.sessions.find(v.r)
	if err != nil {
		return err
	}
	if who != nil {
		return v.redirect("/app/")
	}
	return v.show(http.StatusOK, "sign-in", v.signInForm())
}

func signIn(v *visit) error {
	f := v.signInForm()
	if !f.read(v.r) {
		return v.show(f.status(), "sign-in", f)
	}
	return v.enter("sign-in", f)
}

// enter signs in with a form's email and PIN, or shows a page with what is wrong.
func (v *visit) enter(page string, f *form) error {
	if few, err := v.few(page, f); !few {
		return err
	}
	var who struct {
		ID       int64  `json:"id"`
		Name     string `json:"name"`
		Language string `json:"language"`
	}
	err := v.services.post(v.r.Context(), v.services.Accounts, "/customers/verify", "",
		map[string]string{"email": normal(f.value("email")), "pin": f.value("pin")}, &who)
	if err != nil {
		return v.show(v.tell(f, err), page, f)
	}
	if err := v.sessions.succeeded(v.r.Context(), f.value("email")); err != nil {
		return err
	}
	if err := v.sessions.begin(v.r.Context(), v.w, v.r, session{Customer: who.ID, Name: who.Name}); err != nil {
		return err
	}
	// Who never chose a language gets the one that the bank knows of him.
	if _, err := v.r.Cookie(languageCookie); err != nil {
		setCookie(v.w, v.r, languageCookie, v.languages.Choose(who.Language).Code, languageLife)
	}
	return v.redirect("/app/")
}

// few counts an attempt with an email; after too many it shows the page that says
// so, and false.
func (v *visit) few(page string, f *form) (bool, error) {
	few, err := v.sessions.attempt(v.r, f.value("email"))
	if err == nil && !few {
		f.Problem = v.text("error.attempts", int(attemptWindow.Minutes()))
		err = v.show(http.StatusTooManyRequests, page, f)
	}
	return few, err
}

// signUpForm asks for what a new customer is opened with.
func (v *visit) signUpForm() *form {
	return v.form(
		&field{Name: "name", Auto: "name", Most: 100},
		&field{Name: "email", Type: "email", Auto: "username"},
		&field{Name: "pin", Type: "password", Auto: "new-password", Hinted: true},
	)
}

func signUpPage(v *visit) error { return v.show(http.StatusOK, "sign-up", v.signUpForm()) }

// signUp opens a customer and a first account, and signs in.
func signUp(v *visit) error {
	f := v.signUpForm()
	if !f.read(v.r) {
		return v.show(f.status(), "sign-up", f)
	}
	if few, err := v.few("sign-up", f); !few {
		return err
	}
	var made struct {
		ID int64 `json:"id"`
	}
	err := v.services.post(v.r.Context(), v.services.Accounts, "/customers", "web:"+f.Key,
		map[string]string{"name": f.value("name"), "email": normal(f.value("email")), "pin": f.value("pin"), "language": v.lang.Code}, &made)
	if err != nil {
		return v.show(v.tell(f, err), "sign-up", f)
	}
	// The answer is the same again for who has only the key: the PIN lets in.
	return v.enter("sign-up", f)
}

func signOut(v *visit) error {
	if err := v.sessions.end(v.w, v.r, v.customer); err != nil {
		return err
	}
	return v.redirect("/app/sign-in")
}
