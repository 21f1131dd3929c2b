// The scenarios that are measured against Go: `bench NAME N` prints the seconds that N operations took.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"
)

func channels() (a, b, c, d chan int) {
	return make(chan int, 1), make(chan int, 1), make(chan int, 1), make(chan int, 1)
}

func select4(n int) {
	a, b, c, d := channels()
	for i := 0; i < n; i++ {
		c <- 1
		select {
		case <-a:
		case <-b:
		case <-c:
		case <-d:
		}
	}
}

func default4(n int) {
	a, b, c, d := channels()
	for i := 0; i < n; i++ {
		select {
		case <-a:
		case <-b:
		case <-c:
		case <-d:
		default:
		}
	}
}

func child(n int) {
	parent, end := context.WithCancel(context.Background())
	defer end()
	for i := 0; i < n; i++ {
		_, cancel := context.WithCancel(parent)
		cancel()
	}
}

func deadline(n int) {
	parent, end := context.WithCancel(context.Background())
	defer end()
	for i := 0; i < n; i++ {
		_, cancel := context.WithTimeout(parent, time.Minute)
		cancel()
	}
}

func main() {
	scenario := map[string]func(int){
		"select4": select4, "default4": default4, "context": child, "deadline": deadline,
	}[os.Args[1]]
	n, err := strconv.Atoi(os.Args[2])
	if err != nil || scenario == nil {
		fmt.Fprintln(os.Stderr, "usage: bench select4|default4|context|deadline N")
		os.Exit(2)
	}
	start := time.Now()
	scenario(n)
	fmt.Println(time.Since(start).Seconds())
}
